"""Each directive of the packaged sandbox prevents what it is there for.

Three services try the same thing: one without a sandbox must be able to, one with that directive
alone must not, and neither must one with the packaged unit's whole sandbox.
"""
import struct

from checks import HERE, UNIT, equal, eventually

TITLE = "the sandbox"
UNIT_FILE = "/usr/lib/systemd/system/mcp-auth-proxy.service"
USER = ("User=mcp-auth-proxy",)

# Directive, what is tried, and what the unhardened service needs to make the trial mean something.
PROBES = [
    ("User", "root", ()),
    ("CapabilityBoundingSet", "take_over", ()),
    ("IPAddressDeny", "multicast", ()),
    ("LimitCORE", "dump_core", ()),
    ("LockPersonality", "personality", ()),
    ("MemoryDenyWriteExecute", "writable_code", ()),
    ("NoNewPrivileges", "setuid_program", USER),
    ("PrivateDevices", "device", ()),
    ("PrivateIPC", "shared_memory", ()),
    ("PrivateMounts", "own_mounts", ()),
    ("PrivateTmp", "others_files", ()),
    ("ProcSubset", "uptime", ()),
    ("ProtectClock", "clock", ()),
    ("ProtectControlGroups", "control_group", ()),
    ("ProtectHome", "home", ()),
    ("ProtectHostname", "hostname", ()),
    ("ProtectKernelLogs", "kernel_log", ()),
    ("ProtectKernelModules", "kernel_modules", ()),
    ("ProtectKernelTunables", "kernel_tunables", ()),
    ("ProtectProc", "processes", USER),
    ("ProtectSystem", "system_files", ()),
    ("RestrictAddressFamilies", "packet_socket", ()),
    ("RestrictAddressFamilies", "netlink_socket", ()),
    ("RestrictNamespaces", "namespace", ()),
    ("RestrictRealtime", "realtime", ()),
    ("RestrictSUIDSGID", "make_setuid", ()),
    ("RootDirectory", "rest_of_files", ()),
    ("SystemCallArchitectures", "foreign_code", ()),
    ("SystemCallFilter", "trace", ()),
    ("SystemCallFilter", "change_root", ()),
    ("SystemCallFilter", "renice", ()),
    ("UMask", "readable_files", ()),
]
# Directives that go with another one, or have a check of their own.
WITH = {
    "RootDirectory": ["BindReadOnlyPaths"],
    "SystemCallFilter": ["SystemCallErrorNumber"],
    "IPAddressDeny": ["IPAddressAllow"],
    "RemoveIPC": [],
}
# Lines of [Service] that are not about confinement.
OTHERS = """Type NotifyAccess Environment EnvironmentFile ExecStart ExecReload Restart RestartSec
RestartPreventExitStatus WatchdogSec WatchdogSignal KillMode TimeoutStartSec TimeoutStopSec Group
ConfigurationDirectory RuntimeDirectory RuntimeDirectoryMode RuntimeDirectoryPreserve LimitNOFILE""".split()


def run(checks, m):
    m.install()
    directives = service_section(m.host.path(UNIT_FILE).read_text())
    prepare(m)
    write_units(m, directives)
    m.systemctl("daemon-reload")

    checks.that("every directive of the sandbox has a probe", lambda: all_probed(directives))
    for directive, probe, _ in PROBES:
        checks.that(f"{directive}= prevents: {probe.replace('_', ' ')}", lambda: prevents(m, directive, probe))
    checks.that("RemoveIPC= removes what a daemon leaves", lambda: removes_ipc(m))
    checks.that("the exposure is at most 1.1", lambda: exposure(m))


def service_section(text):
    lines = text.split("[Service]\n")[1].split("\n[")[0].splitlines()
    return [tuple(line.split("=", 1)) for line in lines if line and not line.startswith("#")]


def prepare(m):
    m.host.copy(HERE / "probe.pl", "/usr/bin/probe.pl")
    m.host.run("install", "-m", "4755", "/usr/bin/id", "/usr/bin/probe-setuid")
    program = m.host.path("/usr/bin/probe-32bit")
    program.write_bytes(exit_program())
    program.chmod(0o755)
    for path in ("/srv/probe", "/tmp/probe-file", "/root/probe-file", "/dev/kmsg", "/dev/probe", "/usr/lib/modules/probe"):
        m.host.write(path, "probe\n")
    m.host.run("perl", "-e", "syscall(29, 0x6d637070, 4096, 01666) != -1 or die $!")  # shmget, IPC_CREAT


def exit_program():
    """A static 32-bit x86 program that exits with 0."""
    code = bytes.fromhex("31db 31c0 40 cd80")  # ebx = 0, eax = 1, int 0x80
    address, size = 0x08048000, 84 + len(code)
    ident = b"\x7fELF\1\1\1" + bytes(9)
    header = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, address + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, address, address, size, size, 5, 0x1000)
    return ident + header + segment + code


def write_units(m, directives):
    hardening = [(key, value) for key, value in directives if key not in OTHERS]
    whole = [f"{key}={value}" for key, value in directives if key not in OTHERS or key == "Group" or key.startswith("RuntimeDirectory")]
    for directive, probe, base in PROBES:
        keys = [directive, *WITH.get(directive, [])]
        alone = [f"{key}={value}" for key, value in hardening if key in keys]
        write_unit(m, f"bare-{probe}", probe, base)
        write_unit(m, f"alone-{probe}", probe, [*base, *alone])
        write_unit(m, f"whole-{probe}", probe, whole)
    write_unit(m, "bare-leave_memory", "leave_memory", USER)
    write_unit(m, "alone-leave_memory", "leave_memory", [*USER, "RemoveIPC=yes"])


def write_unit(m, name, probe, lines):
    text = "\n".join(["[Service]", "Type=oneshot", f"ExecStart=/usr/bin/probe.pl {probe}",
                      f"StandardOutput=file:/run/probe.{name}", *lines, ""])
    m.host.write(f"/run/systemd/system/{name}.service", text)


def all_probed(directives):
    probed = {directive for directive, _, _ in PROBES}
    companions = {key for keys in WITH.values() for key in keys} | set(WITH)
    for key, _ in directives:
        assert key in probed | companions | set(OTHERS), f"{key}= has no probe"
    return f"{len(probed) + 1} directives"


def could(m, name):
    m.systemctl("start", f"{name}.service", check=False)
    said = m.host.path(f"/run/probe.{name}").read_text().strip()
    if said.endswith(": done"):
        return True, said
    assert ": not done" in said, f"{name} did not run:\n" + m.journal("-u", f"{name}.service")
    return False, said


def prevents(m, directive, probe):
    done, said = could(m, f"bare-{probe}")
    assert done, f"the unhardened control cannot do it either: {said}"
    done, said = could(m, f"alone-{probe}")
    assert not done, f"with {directive}= alone: {said}"
    done, in_whole = could(m, f"whole-{probe}")
    assert not done, f"in the whole sandbox: {in_whole}"
    return said.split("(")[-1].rstrip(")")


def removes_ipc(m):
    left = lambda: 0x6d637071 in [int(line.split()[0]) for line in m.host.out("cat", "/proc/sysvipc/shm").splitlines()[1:]]
    m.systemctl("start", "alone-leave_memory.service")
    eventually("the segment is gone", lambda: not left())
    m.systemctl("start", "bare-leave_memory.service")
    assert left(), "the unhardened control leaves nothing either"


def exposure(m):
    text = m.host.out("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT_FILE)
    score = text.splitlines()[-1].split(": ")[1].split()[0]
    assert float(score) <= 1.1, text
    return score
