"""The audit of the packaged service: in the journal, by syslog, and in a file that is rotated."""
import json

from checks import CONFIG, SOCKET, UNIT, contains, equal, eventually
from client import Load

TITLE = "the audit"
TAG = "mcp-auth-proxy-audit"
FILE = "/var/log/mcp-auth-proxy/audit.log"
DROP_IN = "/etc/systemd/system/mcp-auth-proxy.service.d/audit-file.conf"
EXAMPLES = "/usr/share/doc/mcp-auth-proxy/examples"
JOURNAL = ["systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket"]


def run(checks, machine):
    machine.install()
    machine.configure(CONFIG + '[audit]\nto = "journald"\n')
    machine.start_upstream()
    machine.systemctl("start", UNIT)
    the_journal(checks, machine)
    syslog(checks, machine)
    the_file(checks, machine)


def entries(m, target):
    """What the journal has under the stream's own name of requests to this path."""
    m.host.run("journalctl", "--sync")
    lines = m.host.out("journalctl", "--no-pager", "--output=json", "-t", TAG).splitlines()
    found = [json.loads(line) for line in lines]
    return [entry for entry in found if json.loads(entry["MESSAGE"]).get("path") == target]


def asked(m, target, times=1):
    for _ in range(times):
        equal(m.get(target)[0], 200)


def only_entry(m, target):
    asked(m, target)
    eventually("the record", lambda: entries(m, target))
    (entry,) = entries(m, target)
    equal(entry["PRIORITY"], "6")
    record = json.loads(entry["MESSAGE"])
    equal((record["verdict"], record["outcome"], record["credential"]), ("permitted", "answered", "acme"))
    equal(record["peer_uid"], 0)
    return entry


def the_journal(checks, m):
    def arrives():
        entry = only_entry(m, "/journal")
        equal(entry["_SYSTEMD_UNIT"], UNIT)
        lines = m.journal("-t", "mcp-auth-proxy")
        assert '"verdict"' not in lines, "the audit is in the log too"

    checks.that("a record arrives in the journal, apart from the log", arrives)

    def restarts():
        with Load(m.host.path(SOCKET), threads=4, target="/restarted") as load:
            for _ in range(3):
                m.systemctl("restart", "systemd-journald.service")
        assert load.all_well, str(load)
        count = sum(load.outcomes.values())
        eventually(f"{count} records", lambda: len(entries(m, "/restarted")) == count)
        return f"{count} records"

    checks.that("a journal that is restarted under load misses none", restarts)

    def away():
        m.systemctl("stop", *JOURNAL)
        # The last one's record shows that the journal is gone; all of them wait.
        asked(m, "/away", 50)
        metric = lambda: metrics(m)["mcp_auth_proxy_audit_failing"]
        eventually("the metric", lambda: metric() == 1)
        m.systemctl("start", *JOURNAL[1:], JOURNAL[0])
        eventually("50 records", lambda: len(entries(m, "/away")) == 50)
        eventually("the metric", lambda: metric() == 0)
        equal(metrics(m)["mcp_auth_proxy_audit_records_lost"], 0)

    checks.that("while there is no journal records wait, a metric says so, and then they are all there", away)


def metrics(m):
    page = m.host.out("perl", "-MIO::Socket::UNIX", "-e", METRICS)
    lines = [line.split(" ") for line in page.splitlines() if line.startswith("mcp_auth_proxy_audit")]
    return {line[0]: float(line[1]) for line in lines}


METRICS = r"""
my $c = IO::Socket::UNIX->new("/run/mcp-auth-proxy/admin.sock") or die $!;
print $c "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
print while <$c>;
"""


def syslog(checks, m):
    def arrives():
        m.configure(CONFIG + '[audit]\nto = "syslog"\n')
        m.systemctl("reload", UNIT)
        entry = only_entry(m, "/syslog")
        equal((entry["_TRANSPORT"], entry["SYSLOG_FACILITY"]), ("syslog", "10"))

    checks.that("by syslog it arrives as authpriv.info", arrives)


def the_file(checks, m):
    m.host.run("useradd", "mallory")

    def example():
        m.host.run("install", "-D", "-m", "0644", f"{EXAMPLES}/audit-file.conf", DROP_IN)
        m.configure(CONFIG + f'[audit]\nfile = "{FILE}"\non_failure = "refuse"\n')
        m.systemctl("daemon-reload")
        m.systemctl("restart", UNIT)
        asked(m, "/file")
        eventually("the record", lambda: len(records(m, "/file")) == 1)
        equal(m.host.out("stat", "--format=%a %U:%G", FILE), "600 mcp-auth-proxy:mcp-auth-proxy")
        contains(m.as_user("mallory", "cat", FILE, check=False).stdout, "Permission denied")

    checks.that("the example for a file works, and nobody else can read it", example)

    def rotated():
        m.host.run("cp", f"{EXAMPLES}/audit.logrotate", "/etc/logrotate.d/mcp-auth-proxy")
        with Load(m.host.path(SOCKET), threads=4, target="/rotated") as load:
            for _ in range(3):
                how = rotate(m)
        assert load.all_well, str(load)
        count = sum(load.outcomes.values())
        eventually(f"{count} records", lambda: len(records(m, "/rotated")) == count)
        ids = {record["request_id"] for record in records(m, "/rotated")}
        equal(len(ids), count)
        files = m.host.out("sh", "-c", f"ls {FILE}*").splitlines()
        assert len(files) == 4, files
        return f"{count} records, {how}"

    checks.that("rotated three times under load, no record is missing and none is there twice", rotated)


def rotate(m):
    """By logrotate, or what it would do."""
    rule = "/etc/logrotate.d/mcp-auth-proxy"
    if m.host.run("sh", "-c", "command -v logrotate", check=False).returncode == 0:
        m.host.run("logrotate", "--force", rule)
        return "by logrotate"
    text = m.host.path(rule).read_text()
    script = text.split("postrotate\n")[1].split("endscript")[0]
    m.host.run("sh", "-ec", f"cd {FILE.rsplit('/', 1)[0]}; for n in 2 1; do [ ! -e audit.log.$n ] || mv audit.log.$n audit.log.$((n + 1)); done\n"
                            f"mv audit.log audit.log.1\n{script}")
    return "by hand"


def records(m, target):
    """Of all files, the compressed ones too."""
    text = m.host.out("sh", "-c", f"cat {FILE} {FILE}.? 2>/dev/null; gzip -dc {FILE}.*.gz 2>/dev/null; true")
    return [record for record in map(json.loads, text.splitlines()) if record.get("path") == target]
