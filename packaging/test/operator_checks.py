"""The system's daemon, as its operator meets it: from installing to purging."""
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from checks import CONFIG, CONFIG_FILE, SECRET_FILE, SOCKET, SOCKET_UNIT, UNIT, contains, equal, eventually, only
from client import Connection, Load, connect, request

TITLE = "the system's daemon"
TCP_UNIT = "mcp-auth-proxy-tcp.socket"
UNITS = [UNIT, SOCKET_UNIT, TCP_UNIT]

# Stops one thread, as a loop without an end would, and leaves the others running.
HANG = """
my $thread = shift;
syscall(101, 16, $thread + 0, 0, 0) == 0 or die "cannot stop $thread: $!";  # ptrace, PTRACE_ATTACH
waitpid($thread, 0x40000000);  # __WALL: until it is stopped
$| = 1; print "stopped\\n";
waitpid($thread, 0x40000000);  # until it is dead, or it would be left to us for ever
"""


def run(checks, machine):
    installing(checks, machine)
    starting_in_vain(checks, machine)
    machine.start_upstream()
    starting(checks, machine)
    reloading(checks, machine)
    activating(checks, machine)
    hanging(checks, machine)
    reading_the_journal(checks, machine)
    the_port(checks, machine)
    more_sockets(checks, machine)
    credentials(checks, machine)
    names_and_certificates(checks, machine)
    replacing(checks, machine)


def installing(checks, m):
    def nothing_runs():
        m.install()
        for unit in UNITS:
            equal(m.systemctl("is-active", unit, check=False).stdout.strip(), "inactive")
            equal(m.systemctl("is-enabled", unit, check=False).stdout.strip(), "disabled")

    checks.that("dpkg installs it without a missing dependency, and starts and enables nothing", nothing_runs)

    def permissions():
        stat = lambda path: m.host.out("stat", "--format=%a %U:%G", path)
        equal(stat("/etc/mcp-auth-proxy/secrets"), "2750 root:mcp-auth-proxy-secrets")
        equal(stat(CONFIG_FILE), "640 root:mcp-auth-proxy-secrets")
        equal(stat("/run/mcp-auth-proxy"), "711 mcp-auth-proxy:mcp-auth-proxy")
        m.set_secret("first")
        equal(stat(SECRET_FILE), "640 root:mcp-auth-proxy-secrets")

    checks.that("a new secret file belongs to root and the secrets' group without being told", permissions)

    for name in ("alice", "mallory"):
        m.host.run("useradd", "--create-home", name)
    m.host.run("gpasswd", "--add", "alice", "mcp-auth-proxy")

    def keys_are_safe():
        for path in (SECRET_FILE, CONFIG_FILE):
            contains(m.as_user("alice", "cat", path, check=False).stdout, "Permission denied")
        contains(m.as_user("alice", "ls", "/etc/mcp-auth-proxy/secrets", check=False).stdout, "Permission denied")

    checks.that("who may use the socket can read neither secrets nor configuration", keys_are_safe)


def starting_in_vain(checks, m):
    def fails_once():
        equal(m.systemctl("start", UNIT, check=False).returncode, 1)
        time.sleep(1.5)
        equal((m.show("ActiveState"), m.show("NRestarts"), m.show("ExecMainStatus")), ("failed", "0", "78"))
        contains(m.systemctl("status", UNIT, check=False).stdout, "no upstream is configured; write [upstream.NAME]")

    checks.that("a start without configuration fails once, and `systemctl status` shows what to write", fails_once)

    def gives_up():
        m.systemctl("reset-failed", UNIT)
        waiting = connect(m.host.path(SOCKET), timeout=10)
        eventually("the socket unit gives up", lambda: m.show("ActiveState", SOCKET_UNIT) == "failed")
        assert ended(waiting), "the client still waits"
        starts = m.journal("-u", UNIT, "--grep=Starting|Failed to start").count("Failed to start")
        assert starts <= 12, f"{starts} starts"
        m.systemctl("reset-failed", UNIT, SOCKET_UNIT)
        return f"{starts} starts in all"

    checks.that("a client that waits for such a daemon does not make it loop, and is told", gives_up)


def ended(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def starting(checks, m):
    m.configure()

    def enable_now():
        m.systemctl("enable", "--now", "mcp-auth-proxy")
        equal(m.show("ActiveState"), "active")
        contains(m.show("StatusText"), "Serving acme")
        return f"ready after {ready_after(m)} ms"

    checks.that("`systemctl enable --now` returns when it serves", enable_now)
    checks.that(
        "`mcp-auth-proxy status` answers root",
        lambda: contains(m.host.out("mcp-auth-proxy", "status"), "is ready", "/run/mcp-auth-proxy/proxy.sock", "acme", "handed over"),
    )
    checks.that(
        "and nobody else, and says who may ask",
        lambda: contains(m.as_user("alice", "mcp-auth-proxy", "status", check=False).stdout, "run this as the daemon's user or as root"),
    )
    checks.that(
        "a member of the group gets a signed request through the packaged socket",
        lambda: contains(m.as_user("alice", "get.pl", SOCKET, "/echo").stdout, "200 OK", '"secret": "first"'),
    )
    checks.that(
        "the kernel refuses everybody else",
        lambda: contains(m.as_user("mallory", "get.pl", SOCKET, "/echo", check=False).stdout, "cannot connect: Permission denied"),
    )
    checks.that("the access log names the caller's user id", lambda: names_caller(m))


def ready_after(m):
    started = int(m.show("ExecMainStartTimestampMonotonic"))
    return (int(m.show("ActiveEnterTimestampMonotonic")) - started) // 1000


def names_caller(m):
    uid = m.host.out("id", "-u", "alice")
    contains(m.journal("-u", UNIT), f'"peer_uid":{uid}')


def reloading(checks, m):
    stream = Connection(m.host.path(SOCKET))
    stream.socket.sendall(request("/events"))
    stream.next_event()

    def rotates():
        m.set_secret("second")
        began = time.monotonic()
        m.systemctl("reload", "mcp-auth-proxy")
        took = time.monotonic() - began
        equal(m.get()[1]["secret"], "second")
        return f"{took * 1000:.0f} ms"

    checks.that("`systemctl reload` returns when a replaced secret signs", rotates)

    def goes_on():
        number = stream.next_event()
        latest = [stream.next_event() for _ in range(5)][-1]
        equal(latest, number + 5)

    checks.that("an event stream opened before goes on", goes_on)

    def broken(break_it, reason):
        break_it()
        done = m.systemctl("reload", "mcp-auth-proxy", check=False)
        assert done.returncode != 0, "the reload succeeded"
        contains(m.journal("-u", UNIT, "-n", "20"), reason)
        contains(m.systemctl("status", UNIT).stdout, reason, "the last reload was refused")
        equal(m.show("ActiveState"), "active")
        equal(m.get()[1]["secret"], "second")
        goes_on()

    checks.that(
        "an empty secret makes reload fail with the reason, and serving goes on",
        lambda: broken(lambda: m.host.path(SECRET_FILE).write_text(""), f"{SECRET_FILE} is empty"),
    )
    m.set_secret("second")
    checks.that(
        "so does a wrong key in the configuration",
        lambda: broken(lambda: m.host.path(CONFIG_FILE).write_text(CONFIG.replace("credential =", "credentail =")), "credentail"),
    )
    m.configure(secret="first")

    def mended():
        m.systemctl("reload", "mcp-auth-proxy")
        equal(m.get()[1]["secret"], "first")
        goes_on()

    checks.that("mended, it reloads again", mended)
    stream.close()


def activating(checks, m):
    def first_connection():
        m.systemctl("stop", UNIT)
        equal(m.show("ActiveState"), "inactive")
        began = time.monotonic()
        equal(m.get()[0], 200)
        return f"answered after {(time.monotonic() - began) * 1000:.0f} ms"

    checks.that("the first connection starts it", first_connection)

    def restart_under_load():
        with Load(m.host.path(SOCKET)) as load:
            for _ in range(3):
                time.sleep(0.5)
                m.systemctl("restart", UNIT)
            time.sleep(0.5)
        assert load.all_well, str(load)
        return str(load)

    checks.that("three restarts under load refuse and reset nothing", restart_under_load)

    def finishes():
        pid = m.main_pid()
        with Load(m.host.path(SOCKET), threads=4, target="/slow?1") as load:
            time.sleep(0.5)
            m.systemctl("restart", UNIT)
        assert load.all_well and m.main_pid() != pid, str(load)
        return str(load)

    checks.that("requests that are under way at a restart are finished", finishes)

    def killed():
        inode = os.stat(m.host.path(SOCKET)).st_ino
        m.systemctl("reset-failed", UNIT)
        began = time.monotonic()
        m.systemctl("kill", "--signal=KILL", UNIT)
        equal(m.get()[0], 200)
        took = time.monotonic() - began
        equal(os.stat(m.host.path(SOCKET)).st_ino, inode)
        assert took < 1, f"{took:.2f} s"
        equal(m.show("NRestarts"), "1")
        contains(m.host.out("mcp-auth-proxy", "status"), "is ready")
        return f"{took * 1000:.0f} ms"

    checks.that("after kill -9 it is back within a second, at the same socket", killed)

    def crash_loop():
        m.host.write("/run/systemd/system/mcp-auth-proxy.service.d/test.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/false\n")
        m.systemctl("daemon-reload")
        m.systemctl("reset-failed", UNIT)
        m.systemctl("restart", UNIT, check=False)
        eventually("it is left down", lambda: m.show("ActiveState") == "failed", 20)
        restarts = int(m.show("NRestarts"))
        assert restarts <= 10, f"{restarts} restarts"
        m.host.path("/run/systemd/system/mcp-auth-proxy.service.d/test.conf").unlink()
        m.systemctl("daemon-reload")
        m.systemctl("reset-failed", UNIT, SOCKET_UNIT)
        m.systemctl("start", UNIT)
        equal(m.get()[0], 200)
        return f"{restarts} restarts"

    checks.that("a daemon that always fails is left down, and comes back by hand", crash_loop)


def hanging(checks, m):
    m.host.write("/run/systemd/system/mcp-auth-proxy.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    m.systemctl("daemon-reload")

    def hang(which):
        m.systemctl("reset-failed", UNIT)
        m.systemctl("restart", UNIT)
        time.sleep(3)  # longer than the watchdog's time: it is fed
        pid = m.main_pid()
        equal(m.show("NRestarts"), "0")
        threads = m.host.out("sh", "-c", f"cd /proc/{pid}/task; for t in *; do echo $t $(cat $t/comm); done")
        chosen = which(threads, pid)
        holder = subprocess.Popen(m.host.command("perl", "-e", HANG, chosen), stdout=subprocess.PIPE, text=True)
        try:
            equal(holder.stdout.readline(), "stopped\n")
            began = time.monotonic()
            eventually("a new process", lambda: m.main_pid() not in (0, pid) and m.show("ActiveState") == "active", 15)
            took = time.monotonic() - began
        finally:
            holder.kill()
            holder.wait()
        equal(m.show("NRestarts"), "1")
        contains(m.journal("-u", UNIT, "-n", "20"), "Watchdog timeout")
        equal(m.get()[0], 200)
        return f"{took:.1f} s with WatchdogSec=2s"

    def main_thread(_, pid):
        return pid

    def a_worker(threads, pid):
        workers = [line.split()[0] for line in threads.splitlines() if "worker" in line and line.split()[0] != str(pid)]
        assert workers, f"no worker among:\n{threads}"
        return workers[0]

    checks.that("a hung main loop is killed by the watchdog, and it comes back", lambda: hang(main_thread))
    checks.that("so is one hung worker among several", lambda: hang(a_worker))
    m.host.path("/run/systemd/system/mcp-auth-proxy.service.d/watchdog.conf").unlink()
    m.systemctl("daemon-reload")
    m.systemctl("restart", UNIT)


def reading_the_journal(checks, m):
    def request_id():
        connection = connect(m.host.path(SOCKET), 10)
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: package-test-17\r\nConnection: close\r\n\r\n")
        while connection.recv(4096):
            pass
        entries = lambda: [entry for entry in journal_entries(m) if "package-test-17" in entry["MESSAGE"]]
        eventually("the request's line", entries)
        entry = entries()[0]
        equal((entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]), ("6", "mcp-auth-proxy"))
        equal(json.loads(entry["MESSAGE"])["request_id"], "package-test-17")

    checks.that("`journalctl -o json` has each request with its id, as JSON, at priority info", request_id)

    def refused():
        errors = [entry for entry in journal_entries(m) if "reload refused" in entry["MESSAGE"]]
        assert errors, "no entry of a refused reload"
        equal({entry["PRIORITY"] for entry in errors}, {"3"})

    checks.that("a refused reload is there at priority error", refused)

    def no_secret():
        text = m.journal()
        for secret in ("first", "second"):
            assert f'"{secret}"' not in text and f"={secret}" not in text, "a secret is in the journal"

    checks.that("no secret is in the journal", no_secret)


def journal_entries(m):
    m.host.run("journalctl", "--sync")
    lines = m.host.out("journalctl", "--no-pager", "--output=json", "-u", UNIT).splitlines()
    return [json.loads(line) for line in lines]


def the_port(checks, m):
    def closed():
        contains(m.as_user("mallory", "get.pl", "8080", "/echo", check=False).stdout, "Connection refused")

    checks.that("no TCP port is open unless it is asked for", closed)

    def opened():
        m.systemctl("enable", TCP_UNIT)
        m.systemctl("stop", UNIT)
        m.systemctl("start", UNIT)
        contains(m.as_user("alice", "get.pl", "8080", "/echo").stdout, "200 OK")
        contains(m.host.out("mcp-auth-proxy", "status"), "127.0.0.1:8080  for clients, handed over", "/run/mcp-auth-proxy/proxy.sock")

    checks.that("asked for, the port is there beside the socket", opened)

    def not_for_browsers():
        answer = m.host.out("perl", "-MIO::Socket::INET", "-e", BROWSER)
        contains(answer, "403")

    checks.that("and refuses a browser's cross-site request", not_for_browsers)
    m.systemctl("disable", "--now", TCP_UNIT)
    m.systemctl("restart", UNIT)


BROWSER = r"""
my $c = IO::Socket::INET->new("127.0.0.1:8080") or die $!;
print $c "GET /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n";
print while <$c>;
"""


def more_sockets(checks, m):
    def listener():
        m.configure(CONFIG + '\n[[listener]]\nunix = "/run/mcp-auth-proxy/more.sock"\n')
        m.systemctl("reload", UNIT)
        equal(m.host.out("stat", "--format=%a %U:%G", "/run/mcp-auth-proxy/more.sock"), "660 mcp-auth-proxy:mcp-auth-proxy")
        contains(m.as_user("alice", "get.pl", "/run/mcp-auth-proxy/more.sock", "/echo").stdout, "200 OK")
        equal(m.get()[0], 200)
        m.configure()
        m.systemctl("reload", UNIT)
        assert not m.host.path("/run/mcp-auth-proxy/more.sock").exists()

    checks.that("a listener added to the configuration is opened by a reload, for the group", listener)

    def team():
        m.host.run("groupadd", "--system", "team")
        m.host.run("gpasswd", "--add", "mallory", "team")
        example(m, "team.socket", "/etc/systemd/system/mcp-auth-proxy-team.socket")
        m.systemctl("daemon-reload")
        m.systemctl("enable", "mcp-auth-proxy-team.socket")
        m.systemctl("stop", UNIT)
        m.systemctl("start", UNIT)
        contains(m.as_user("mallory", "get.pl", "/run/mcp-auth-proxy/team.sock", "/echo").stdout, "200 OK")
        contains(m.as_user("mallory", "get.pl", SOCKET, "/echo", check=False).stdout, "Permission denied")
        m.systemctl("disable", "--now", "mcp-auth-proxy-team.socket")
        m.host.path("/etc/systemd/system/mcp-auth-proxy-team.socket").unlink()
        m.systemctl("daemon-reload")
        m.systemctl("restart", UNIT)

    checks.that("the example for another group's socket works", team)

    def tenant():
        for line in example_commands("tenant.conf"):
            m.host.run("sh", "-ec", "cd /etc/systemd/system\n" + line.replace("systemctl enable --now", "systemctl daemon-reload; :"))
        directory = "/etc/mcp-auth-proxy/acme"
        m.host.write(f"{directory}/config.toml", CONFIG.replace("/etc/mcp-auth-proxy/secrets", directory), 0o640)
        m.set_secret("second", f"{directory}/acme")
        m.host.run("chgrp", "mcp-auth-proxy-acme", f"{directory}/config.toml", f"{directory}/acme")
        m.host.run("gpasswd", "--add", "mallory", "acme")
        m.systemctl("enable", "--now", "mcp-auth-proxy@acme")
        socket_of_acme = "/run/mcp-auth-proxy-acme/proxy.sock"
        contains(m.as_user("mallory", "get.pl", socket_of_acme, "/echo").stdout, '"secret": "second"')
        contains(m.as_user("alice", "get.pl", socket_of_acme, "/echo", check=False).stdout, "Permission denied")
        contains(m.host.out("mcp-auth-proxy", "status", "--admin-socket", "/run/mcp-auth-proxy-acme/admin.sock"), "is ready")
        m.systemctl("reload", "mcp-auth-proxy@acme")
        equal(m.get()[1]["secret"], "first")
        m.systemctl("disable", "--now", "mcp-auth-proxy@acme.service", "mcp-auth-proxy@acme.socket")
        m.host.run("sh", "-c", "rm -r /etc/systemd/system/mcp-auth-proxy@* /etc/tmpfiles.d/mcp-auth-proxy-acme.conf /run/mcp-auth-proxy-acme")
        m.host.run("userdel", "mcp-auth-proxy-acme")
        m.systemctl("daemon-reload")

    checks.that("the example for tenants gives one a daemon of its own", tenant)


def example(m, name, to):
    m.host.run("cp", f"/usr/share/doc/mcp-auth-proxy/examples/{name}", to)


def example_commands(name):
    """The shell commands in an example's comments: what is indented, without remarks."""
    text = (Path(__file__).parents[2] / "systemd/examples" / name).read_text()
    commands = [line[4:] for line in text.splitlines() if line.startswith("#   ") and not line.startswith("#   (")]
    return "\n".join(commands).replace("\\\n", "").splitlines()


def credentials(checks, m):
    with_credential = CONFIG.replace(f'file = "{SECRET_FILE}"', 'credential = "acme"')
    dropin = "/run/systemd/system/mcp-auth-proxy.service.d/credential.conf"

    def try_example(name, prepare):
        prepare()
        example(m, name, dropin)
        m.host.path(CONFIG_FILE).write_text(with_credential)
        m.systemctl("daemon-reload")
        m.systemctl("restart", UNIT)
        equal(m.get()[1]["secret"], "second")

    m.host.path("/run/systemd/system/mcp-auth-proxy.service.d").mkdir(parents=True, exist_ok=True)

    def plain():
        m.host.run("install", "-D", "-m", "0600", "/dev/stdin", "/root/mcp-auth-proxy/acme", stdin="second\n")

    checks.that("the example for LoadCredential= works", lambda: try_example("load-credential.conf", plain))

    def encrypted():
        m.host.run("install", "-d", "-m", "0700", "/etc/credstore.encrypted")
        m.host.run("systemd-creds", "encrypt", "--name=acme", "--with-key=host", "-", "/etc/credstore.encrypted/acme", stdin="second\n")

    checks.that("the example for LoadCredentialEncrypted= works", lambda: try_example("load-credential-encrypted.conf", encrypted))

    def missing():
        m.host.path("/etc/credstore.encrypted/acme").unlink()
        equal(m.systemctl("restart", UNIT, check=False).returncode, 1)
        contains(m.systemctl("status", UNIT, check=False).stdout, "243/CREDENTIALS")

    checks.that("a missing credential is named by systemd as such", missing)
    m.host.path(dropin).unlink()
    m.configure()
    m.systemctl("daemon-reload")
    m.systemctl("stop", UNIT)
    m.systemctl("reset-failed", UNIT, SOCKET_UNIT)
    m.systemctl("restart", UNIT)


def names_and_certificates(checks, m):
    m.upstream.kill()
    m.upstream.wait()
    m.host.path("/run/upstream.sock").unlink()
    with tempfile.TemporaryDirectory() as directory:
        authority, certificate, key = make_certificates(Path(directory))
        m.start_upstream("--tls", "8443", "--certificate", certificate, "--key", key, "--dns", "gateway.test")
        trusted = authority.read_text()
    resolv = m.host.path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    resolv.write_text("nameserver 127.0.0.1\n")
    m.configure(CONFIG.replace("unix:/run/upstream.sock", "https://gateway.test:8443/"))

    def untrusted():
        m.systemctl("restart", UNIT)
        status, answer = m.get()
        equal(status, 502)
        return json.dumps(answer)[:150]

    bundle = m.host.path("/etc/ssl/certs/ca-certificates.crt")
    bundle.parent.mkdir(parents=True, exist_ok=True)
    if bundle.exists():
        checks.that("an upstream whose authority the system does not know is not trusted", untrusted)
    with bundle.open("a") as file:
        file.write(trusted)

    def trusted_now():
        m.systemctl("restart", UNIT)
        equal(m.get()[1]["secret"], "first")

    checks.that("in its sandbox it resolves names by DNS and verifies TLS with the system's roots", trusted_now)

    def unknown_name():
        m.configure(CONFIG.replace("unix:/run/upstream.sock", "https://nowhere.test:8443/"))
        m.systemctl("reload", UNIT)
        equal(m.get()[0], 502)
        contains(m.host.out("mcp-auth-proxy", "status"), "cannot resolve nowhere.test")

    checks.that("a name that does not exist is named in `status`", unknown_name)
    m.configure()
    m.systemctl("restart", UNIT)


def make_certificates(directory):
    openssl = lambda *arguments: subprocess.run(["openssl", *arguments], check=True, cwd=directory, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Package Test",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway.test",
            "-keyout", "leaf.key", "-out", "leaf.csr")
    (directory / "extensions").write_text("subjectAltName=DNS:gateway.test\n")
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "extensions", "-out", "leaf.pem")
    return directory / "ca.pem", directory / "leaf.pem", directory / "leaf.key"


def replacing(checks, m):
    edited = CONFIG + "\n# the administrator's own line\n"
    m.configure(edited)
    m.host.run("chmod", "0600", SECRET_FILE)
    m.host.run("chown", "mcp-auth-proxy", SECRET_FILE)
    m.systemctl("reload", UNIT)

    def change(package, version):
        inode, pid = os.stat(m.host.path(SOCKET)).st_ino, m.main_pid()
        with Load(m.host.path(SOCKET)) as load:
            time.sleep(0.3)
            m.host.run("dpkg", "--install", package)
            time.sleep(0.5)
        assert load.all_well, str(load)
        assert m.main_pid() != pid, "the old daemon still runs"
        equal(os.stat(m.host.path(SOCKET)).st_ino, inode)
        equal(m.host.out("dpkg-query", "--show", "--showformat=${Version}", "mcp-auth-proxy"), version)
        equal(m.host.path(CONFIG_FILE).read_text(), edited)
        equal(m.host.out("stat", "--format=%a %U:%G", CONFIG_FILE), "640 root:mcp-auth-proxy-secrets")
        equal(m.host.out("stat", "--format=%a %U:%G", SECRET_FILE), "600 mcp-auth-proxy:mcp-auth-proxy-secrets")
        equal(m.systemctl("is-enabled", UNIT).stdout.strip(), "enabled")
        return str(load)

    checks.that("an upgrade under load refuses nothing and keeps what the administrator changed",
                lambda: change("/root/newer.deb", version_of(only(m.newer, "deb"))))
    checks.that("so does a downgrade", lambda: change("/root/package.deb", version_of(only(m.packages, "deb"))))

    def stays_down():
        m.systemctl("stop", UNIT, SOCKET_UNIT)
        m.host.run("dpkg", "--install", "/root/newer.deb")
        equal((m.show("ActiveState"), m.show("ActiveState", SOCKET_UNIT)), ("inactive", "inactive"))
        m.systemctl("start", UNIT)

    checks.that("an upgrade does not start what was stopped", stays_down)

    def failing_upgrade():
        m.host.path(CONFIG_FILE).write_text("wrong")
        contains(m.host.out("dpkg", "--install", "/root/package.deb"), "did not come back")
        equal(m.host.out("dpkg-query", "--show", "--showformat=${Status}", "mcp-auth-proxy"), "install ok installed")
        m.host.path(CONFIG_FILE).write_text(edited)
        m.systemctl("reset-failed", UNIT)
        m.systemctl("restart", UNIT)

    checks.that("an upgrade onto a broken configuration says so and leaves dpkg in order", failing_upgrade)

    def removed():
        m.host.run("dpkg", "--remove", "mcp-auth-proxy")
        equal(m.host.path(CONFIG_FILE).read_text(), edited)
        equal(m.host.path(SECRET_FILE).read_text(), "first\n")
        assert not m.host.path("/usr/bin/mcp-auth-proxy").exists()
        assert not m.host.path("/run/mcp-auth-proxy").exists()
        equal(m.host.out("pgrep", "-x", "mcp-auth-proxy", check=False) if has(m, "pgrep") else "", "")
        equal(m.systemctl("list-unit-files", "--no-legend", "mcp-auth-proxy*", check=False).stdout.strip(), "")

    checks.that("removing stops it and leaves configuration and secrets", removed)

    def again():
        m.install()
        equal(m.host.path(CONFIG_FILE).read_text(), edited)
        equal(m.systemctl("is-enabled", UNIT, check=False).stdout.strip(), "disabled")
        equal(m.show("ActiveState"), "inactive")
        m.systemctl("start", UNIT)
        contains(m.host.out("mcp-auth-proxy", "status"), "is ready")

    checks.that("installed again, it starts nothing and finds them", again)

    def purged():
        m.host.run("dpkg", "--purge", "mcp-auth-proxy")
        m.host.path("/run/systemd/system/mcp-auth-proxy.service.d").rmdir()  # our own
        left = m.host.out("find", "/etc", "/run", "/usr", "/var", "/home", "-xdev", "-name", "*mcp-auth-proxy*")
        equal(left, "")
        accounts = m.host.out("cat", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
        assert "mcp-auth-proxy" not in accounts, "an account is left"

    checks.that("purging leaves nothing, no account either", purged)


def has(m, program):
    return m.host.run("sh", "-c", f"command -v {program}", check=False).returncode == 0


def version_of(deb):
    return subprocess.run(["dpkg-deb", "--field", deb, "Version"], check=True, capture_output=True, text=True).stdout.strip()
