#!/usr/bin/env python3
"""Holds the launchd property lists against launchd.plist(5), the code and their README.

There is no launchd off a Mac, so this is what can be checked anywhere. One `ok` or `not ok`
line per check, `N passed, N failed` at the end.
"""

import pathlib
import plistlib
import re
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]

JOB = {
    "Label": str, "Program": str, "ProgramArguments": list, "UserName": str, "GroupName": str,
    "RunAtLoad": bool, "KeepAlive": (bool, dict), "ThrottleInterval": int, "ExitTimeOut": int,
    "Umask": (int, str), "ProcessType": str, "LimitLoadToSessionType": (str, list),
    "WorkingDirectory": str, "EnvironmentVariables": dict, "StandardOutPath": str,
    "StandardErrorPath": str, "SoftResourceLimits": dict, "HardResourceLimits": dict,
    "Sockets": dict, "Nice": int, "LowPriorityIO": bool, "AbandonProcessGroup": bool,
    "EnableTransactions": bool, "InitGroups": bool, "Disabled": bool,
}
SOCKET = {
    "SockType": str, "SockPassive": bool, "SockNodeName": str, "SockServiceName": str,
    "SockFamily": str, "SockProtocol": str, "SockPathName": str, "SecureSocketWithKey": str,
    "SockPathOwner": int, "SockPathGroup": int, "SockPathMode": int,
}
LIMITS = dict.fromkeys(
    ("Core", "CPU", "Data", "FileSize", "MemoryLock", "NumberOfFiles", "NumberOfProcesses",
     "ResidentSetSize", "Stack"), int)
KEEP_ALIVE = {"SuccessfulExit": bool, "Crashed": bool, "AfterInitialDemand": bool,
              "PathState": dict, "OtherJobEnabled": dict}
SUB_TABLES = {"SoftResourceLimits": LIMITS, "HardResourceLimits": LIMITS, "KeepAlive": KEEP_ALIVE}
VALUES = {
    "ProcessType": {"Background", "Standard", "Adaptive", "Interactive"},
    "SockFamily": {"IPv4", "IPv6", "IPv4v6", "Unix"},
    "SockType": {"dgram", "stream", "seqpacket"},
}
SUN_PATH = 103

passed = failed = 0


def say(problems, what):
    global passed, failed
    if problems:
        failed += 1
        print(f"not ok {what}: " + "; ".join(problems))
    else:
        passed += 1
        print(f"ok {what}")


def typed(table, known, where=""):
    for key, value in table.items():
        name = where + key
        if key not in known:
            yield f"unknown key {name}"
        # A Python bool is an int, a property list's <true/> is not.
        elif not isinstance(value, known[key]) or (known[key] is int and isinstance(value, bool)):
            yield f"{name} is a {type(value).__name__}"
        elif key in VALUES and value not in VALUES[key]:
            yield f"{name} = {value}"
        elif isinstance(value, dict) and key in SUB_TABLES:
            yield from typed(value, SUB_TABLES[key], f"{name}.")


def repeated_keys(path):
    """plistlib keeps the last of two; launchd may keep the first."""
    for table in ElementTree.parse(path).iter("dict"):
        keys = [key.text for key in table.findall("key")]
        yield from sorted({key for key in keys if keys.count(key) > 1})


def sockets(job, names):
    for name, socket in job["Sockets"].items():
        if name not in names:
            yield f"the code never asks launchd for {name}"
        yield from typed(socket, SOCKET, f"Sockets.{name}.")
        if socket.get("SockFamily") == "Unix":
            path = socket["SockPathName"]
            if not path.startswith("/") or len(path) > SUN_PATH:
                yield f"{path} cannot be a socket's address"
            wanted = 0o600 if name == "admin" else 0o660
            if socket.get("SockPathMode") != wanted:
                yield f"{name} has mode {socket.get('SockPathMode', 0):o} instead of {wanted:o}"
        elif socket.get("SockNodeName") != "127.0.0.1":
            yield f"{name} does not say that it is on loopback"


def main():
    launchd_rs = (ROOT / "src/listen/inherited/launchd.rs").read_text()
    names = re.findall(r'"([a-z]+)"', re.search(r"NAMES: .*?= \[(.*?)\];", launchd_rs).group(1))
    readme = (ROOT / "launchd/README.md").read_text()
    files = sorted((ROOT / "launchd").glob("*.plist"))
    jobs = {path.stem.rsplit(".", 1)[1]: plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)
            for path in files}
    say({"agent", "daemon"} ^ set(jobs), "there is a LaunchDaemon and a LaunchAgent")
    for path in files:
        job = jobs[path.stem.rsplit(".", 1)[1]]
        say(list(typed(job, JOB)), f"{path.name}: every key is launchd's and has its type")
        say(list(repeated_keys(path)), f"{path.name}: no key is there twice")
        say([] if job["Label"] == path.stem else [job["Label"]], f"{path.name}: Label is the file's name")
        say([] if job["ProgramArguments"][0].startswith("/") else [job["ProgramArguments"][0]],
            f"{path.name}: the program's path is absolute")
        say(list(sockets(job, names)), f"{path.name}: sockets are what the code expects")
    daemon, agent = jobs["daemon"], jobs["agent"]
    say(set(names) ^ set(daemon["Sockets"]), "the LaunchDaemon has every socket that the code asks for")
    say(["it has one"] if "UserName" in agent else [], "the LaunchAgent has no UserName: it is its user's")
    directory = re.search(r'cfg!\(target_os = "macos"\) \{\s*"([^"]+)"', (ROOT / "src/paths.rs").read_text()).group(1)
    unix = [socket for socket in daemon["Sockets"].values() if socket["SockFamily"] == "Unix"]
    strays = [socket["SockPathName"] for socket in unix if str(pathlib.PurePath(socket["SockPathName"]).parent) != directory]
    say(strays, "the LaunchDaemon's sockets are where the code looks on a Mac")
    numbers = {str(socket[key]) for socket in unix for key in ("SockPathOwner", "SockPathGroup")}
    say(numbers ^ set(re.findall(r"(?:UniqueID|PrimaryGroupID) (\d+)", readme)), "its ids are those that the README creates")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
