"""What every suite needs: counting, and an installed machine with an upstream beside it."""
import subprocess
import sys
import time
import traceback
from pathlib import Path

from client import get
from host import Failed

HERE = Path(__file__).resolve().parent
SOCKET = "/run/mcp-auth-proxy/proxy.sock"
UPSTREAM = "/run/upstream.sock"
SECRET_FILE = "/etc/mcp-auth-proxy/secrets/acme"
CONFIG_FILE = "/etc/mcp-auth-proxy/config.toml"
UNIT = "mcp-auth-proxy.service"
SOCKET_UNIT = "mcp-auth-proxy.socket"

CONFIG = f"""[upstream.acme]
url = "unix:{UPSTREAM}"
credential = "acme"

[credential.acme.auth-gateway]
key_id = "package-test"
secret = {{ file = "{SECRET_FILE}" }}
"""


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, []
        self.title = ""

    def begin(self, title):
        self.title = title
        print(f"# {title}", flush=True)

    def that(self, sentence, function):
        """Runs a check; what it returns, if anything, is said beside the sentence."""
        try:
            said = function()
        except Exception as error:
            self.failed.append(f"{self.title}: {sentence}")
            print(f"not ok {sentence}", flush=True)
            print("    " + str(error).replace("\n", "\n    "), flush=True)
            if not isinstance(error, (AssertionError, Failed)):
                traceback.print_exc(file=sys.stdout)
            return
        self.passed += 1
        print(f"ok {sentence}" + (f" ({said})" if said else ""), flush=True)

    def finish(self):
        for failed in self.failed:
            print(f"failed: {failed}")
        print(f"{self.passed} passed, {len(self.failed)} failed")
        return 1 if self.failed else 0


class Machine:
    """A host, the packages to install on it, and an upstream that verifies signatures."""

    def __init__(self, host, packages, newer):
        self.host, self.packages, self.newer = host, packages, newer
        self.upstream = None

    def __enter__(self):
        for kind in ("deb", "rpm"):
            self.host.copy(only(self.packages, kind), f"/root/package.{kind}")
            self.host.copy(only(self.newer, kind), f"/root/newer.{kind}")
        self.host.copy(HERE / "get.pl", "/usr/bin/get.pl")
        return self

    def __exit__(self, *_):
        if self.upstream:
            self.upstream.kill()
            self.upstream.wait()

    def start_upstream(self, *arguments, unix=UPSTREAM):
        """Outside the host's files, but in its network."""
        command = ["nsenter", f"--target={self.host.pid}", "--net", sys.executable, "-B", HERE / "upstream.py",
                   "--unix", self.host.path(unix), "--secret", "first", "--secret", "second", *arguments]
        self.upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.upstream.stdout.readline() == "ready\n", "the upstream did not start"

    def install(self):
        return self.host.out("dpkg", "--install", "/root/package.deb")

    def configure(self, config=CONFIG, secret="first"):
        self.set_secret(secret)
        path = self.host.path(CONFIG_FILE)
        path.write_text(config)  # in place: keeps mode and group

    def set_secret(self, secret, path=SECRET_FILE):
        self.host.run("install", "-m", "0640", "/dev/stdin", path, stdin=secret + "\n")

    def as_user(self, name, *command, check=True):
        return self.host.run("setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "env", f"HOME=/home/{name}", *command, check=check)

    def systemctl(self, *arguments, check=True):
        return self.host.run("systemctl", *arguments, check=check)

    def show(self, name, unit=UNIT):
        return self.host.out("systemctl", "show", "--property", name, "--value", unit)

    def main_pid(self):
        return int(self.show("MainPID"))

    def journal(self, *arguments):
        self.host.run("journalctl", "--sync")
        return self.host.out("journalctl", "--no-pager", "--output=cat", *arguments)

    def get(self, target="/echo"):
        return get(self.host.path(SOCKET), target)


def only(directory, kind):
    """The one package of a kind in a directory."""
    (found,) = directory.glob(f"*.{kind}")
    return found


def eventually(what, condition, patience=10):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {patience} s: {what}")


def equal(found, wanted):
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"


def contains(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"
