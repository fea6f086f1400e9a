"""A user's own daemon, in the manager of a user who lingers."""
import os
import time

from checks import CONFIG, contains, equal, eventually
from client import Connection, Load, get, request

TITLE = "a user's daemon"
SECRET_FILE = "/home/alice/.config/mcp-auth-proxy/secret"
CONFIG_FILE = "/home/alice/.config/mcp-auth-proxy/config.toml"
UNIT = "mcp-auth-proxy.service"


def run(checks, m):
    m.install()
    m.start_upstream()
    for name in ("alice", "mallory"):
        m.host.run("useradd", "--create-home", name)
    alice = User(m, "alice")

    checks.that("the manager of a user who lingers starts", alice.linger)

    def without_file():
        equal(alice.systemctl("start", "mcp-auth-proxy", check=False).returncode, 1)
        contains(alice.systemctl("status", "mcp-auth-proxy", check=False).stdout, f"{CONFIG_FILE}: the configuration file does not exist")
        alice.systemctl("reset-failed", UNIT)

    checks.that("without a file of her own, status says which one to write, not the system's", without_file)

    alice.write_secret("first")
    alice.write(CONFIG_FILE, CONFIG.replace("/etc/mcp-auth-proxy/secrets/acme", SECRET_FILE))

    def starts():
        alice.systemctl("enable", "--now", "mcp-auth-proxy")
        equal(alice.show("ActiveState"), "active")
        contains(alice.run("mcp-auth-proxy", "status").stdout, "is ready", alice.socket, "handed over")

    checks.that("`systemctl --user enable --now` returns when it serves, and `status` finds it", starts)
    checks.that("she gets signed requests", lambda: contains(alice.run("get.pl", alice.socket, "/echo").stdout, '"secret": "first"'))
    checks.that(
        "another user does not",
        lambda: contains(m.as_user("mallory", "get.pl", alice.socket, "/echo", check=False).stdout, "Permission denied"),
    )

    stream = Connection(m.host.path(alice.socket))
    stream.socket.sendall(request("/events"))
    stream.next_event()

    def rotates():
        alice.write_secret("second")
        alice.systemctl("reload", "mcp-auth-proxy")
        equal(alice.get()[1]["secret"], "second")
        stream.next_event()

    checks.that("reload takes a new secret, and event streams go on", rotates)

    def refuses():
        alice.write_secret("")
        assert alice.systemctl("reload", "mcp-auth-proxy", check=False).returncode != 0
        contains(alice.systemctl("status", "mcp-auth-proxy").stdout, f"{SECRET_FILE} is empty")
        equal(alice.get()[1]["secret"], "second")
        stream.next_event()
        alice.write_secret("second")

    checks.that("a broken secret makes reload fail with the reason, and serving goes on", refuses)
    stream.close()

    def activates():
        alice.systemctl("stop", UNIT)
        equal(alice.get()[0], 200)

    checks.that("the first connection starts it", activates)

    def restarts():
        with Load(m.host.path(alice.socket)) as load:
            for _ in range(2):
                time.sleep(0.5)
                alice.systemctl("restart", UNIT)
            time.sleep(0.5)
        assert load.all_well, str(load)
        return str(load)

    checks.that("restarts under load refuse and reset nothing", restarts)

    def killed():
        inode = os.stat(m.host.path(alice.socket)).st_ino
        alice.systemctl("reset-failed", UNIT)
        began = time.monotonic()
        alice.systemctl("kill", "--signal=KILL", UNIT)
        equal(alice.get()[0], 200)
        took = time.monotonic() - began
        equal(os.stat(m.host.path(alice.socket)).st_ino, inode)
        assert took < 1, f"{took:.2f} s"
        return f"{took * 1000:.0f} ms"

    checks.that("after kill -9 it is back within a second, at the same socket", killed)


class User:
    def __init__(self, m, name):
        self.m, self.name = m, name
        self.runtime = "/run/user/" + m.host.out("id", "-u", name)
        self.socket = f"{self.runtime}/mcp-auth-proxy/proxy.sock"

    def linger(self):
        self.m.host.run("loginctl", "enable-linger", self.name)
        eventually("her manager's bus", self.m.host.path(f"{self.runtime}/bus").exists, 20)
        eventually("her manager", lambda: self.systemctl("is-system-running", check=False).stdout.strip() in ("running", "degraded"), 20)

    def run(self, *command, check=True):
        return self.m.as_user(self.name, "env", f"XDG_RUNTIME_DIR={self.runtime}", *command, check=check)

    def systemctl(self, *arguments, check=True):
        return self.run("systemctl", "--user", *arguments, check=check)

    def show(self, name):
        return self.systemctl("show", "--property", name, "--value", UNIT).stdout.strip()

    def write(self, path, content):
        self.run("install", "-d", "-m", "0700", os.path.dirname(path))
        self.m.host.run("install", "-m", "0600", f"--owner={self.name}", "/dev/stdin", path, stdin=content)

    def write_secret(self, secret):
        self.write(SECRET_FILE, secret + "\n" if secret else "")

    def get(self):
        return get(self.m.host.path(self.socket))
