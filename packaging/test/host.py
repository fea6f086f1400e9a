"""A machine to install the package on: a real systemd in namespaces over a root file system."""
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BOOT_PATIENCE = 30


class Failed(Exception):
    """A command that should have succeeded did not."""


class Host:
    def __init__(self, root):
        self.state = Path(tempfile.mkdtemp(prefix="package-test-"))
        self.name = self.state.name
        self.console = open(self.state / "console", "w+b")
        command = [HERE / "boot", root, self.state, self.name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT
        )
        self.pid = None

    def __enter__(self):
        try:
            self.wait_for_boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_for_boot(self):
        deadline = time.monotonic() + BOOT_PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Failed("the host did not boot:\n" + (self.state / "console").read_text())
            self.pid = self.pid or self.find_manager()
            if self.pid and self.path("/run/dbus/system_bus_socket").exists():
                # "degraded" is fine: a plain machine has units that do not work in namespaces.
                self.run("systemctl", "is-system-running", "--wait", check=False)
                return
            time.sleep(0.02)
        raise Failed("the host did not boot in time:\n" + (self.state / "console").read_text())

    def find_manager(self):
        """The first process of the host: the child of unshare, once it has become systemd."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            try:
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
            except FileNotFoundError:
                pass
        return None

    def path(self, inside):
        """How a file of the host is reached from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def command(self, *command):
        """How a command is run in the host, by its root."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"]
        return [*enter, "--root", "--wdns=/", "--", *clean, *map(str, command)]

    def run(self, *command, check=True, stdin=None, timeout=120):
        """Runs a command in the host; stdout and stderr come together."""
        done = subprocess.run(
            self.command(*command),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            preexec_fn=self.join_cgroup,
        )
        if check and done.returncode:
            raise Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
        return done

    def out(self, *command, **options):
        return self.run(*command, **options).stdout.strip()

    def join_cgroup(self):
        """Else the host's manager would not know the process."""
        self.cgroup().joinpath("payload/init.scope/cgroup.procs").write_text(str(os.getpid()))

    def cgroup(self):
        for base in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if os.path.exists(f"{base}/cgroup.procs"):
                return Path(base, self.name)
        raise Failed("there is no cgroup2 hierarchy")

    def write(self, inside, content, mode=0o644):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)

    def copy(self, outside, inside):
        shutil.copy(outside, self.path(inside))

    def stop(self):
        if self.pid and self.process.poll() is None:
            try:
                os.kill(self.pid, signal.SIGRTMIN + 4)  # systemd: power off
                self.process.wait(timeout=10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.console.close()
        for directory, _, _ in os.walk(self.cgroup(), topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        shutil.rmtree(self.state, ignore_errors=True)
