"""The rpm, on a host that has rpm beside its own package manager; its scripts are the deb's."""
import time

from checks import CONFIG_FILE, SECRET_FILE, SOCKET, UNIT, contains, equal
from client import Load

TITLE = "the rpm"


def run(checks, m):
    if m.host.run("sh", "-c", "command -v rpm", check=False).returncode:
        print("not tried: there is no rpm here")
        return
    # The database is new, so it has none of what the package depends on.
    rpm = lambda *arguments: m.host.out("rpm", "--dbpath=/root/rpmdb", "--nodeps", *arguments)
    m.start_upstream()

    def installs():
        rpm("--install", "/root/package.rpm")
        equal(m.systemctl("is-enabled", UNIT, check=False).stdout.strip(), "disabled")
        equal(m.host.out("stat", "--format=%a %U:%G", "/etc/mcp-auth-proxy/secrets"), "2750 root:mcp-auth-proxy-secrets")
        m.configure()
        m.systemctl("enable", "--now", "mcp-auth-proxy")
        equal(m.get()[1]["secret"], "first")

    checks.that("it installs, starts nothing, and serves once configured", installs)

    def upgrades():
        pid, edited = m.main_pid(), m.host.path(CONFIG_FILE).read_text()
        with Load(m.host.path(SOCKET)) as load:
            time.sleep(0.3)
            rpm("--upgrade", "/root/newer.rpm")
            time.sleep(0.5)
        assert load.all_well and m.main_pid() != pid, str(load)
        equal(m.host.path(CONFIG_FILE).read_text(), edited)
        equal(m.host.out("stat", "--format=%a %U:%G", CONFIG_FILE), "640 root:mcp-auth-proxy-secrets")
        equal(m.host.out("stat", "--format=%a %U:%G", "/etc/mcp-auth-proxy/secrets"), "2750 root:mcp-auth-proxy-secrets")
        equal(m.show("ActiveState"), "active")
        m.systemctl("reload", UNIT)
        return str(load)

    checks.that("an upgrade under load refuses nothing and keeps what the administrator changed", upgrades)

    def erased():
        rpm("--erase", "mcp-auth-proxy")
        contains(m.host.path(CONFIG_FILE.replace(".toml", ".toml.rpmsave")).read_text(), "[upstream.acme]")
        equal(m.host.path(SECRET_FILE).read_text(), "first\n")
        assert not m.host.path("/usr/bin/mcp-auth-proxy").exists() and not m.host.path("/run/mcp-auth-proxy").exists()

    checks.that("erasing stops it and leaves configuration and secrets", erased)
