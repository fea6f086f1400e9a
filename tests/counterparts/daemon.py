"""Starts the proxy and waits for the READY=1 it sends.

    python daemon.py BINARY CONFIG

Prints one JSON line, {"port": N, "pid": N}: the TCP port it listens on. SIGTERM is handed on to the
proxy, and its exit code is ours.
"""

import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys

READY_WITHIN_SECONDS = 15


def tcp_port(pid: int) -> int:
    """The port was given as 0, so ask the kernel which one it became."""
    inodes = {os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" and f"socket:[{rest[5]}]" in inodes:
            return int(local.partition(":")[2], 16)
    raise SystemExit("the proxy is ready but listens on no TCP port")


binary, config = sys.argv[1:]
path = str(pathlib.Path(config).with_name("notify.sock"))
notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notifications.bind(path)

daemon = subprocess.Popen(
    [binary, "serve", "--config", config],
    stdout=sys.stderr,
    env={"NOTIFY_SOCKET": path, "PATH": os.environ["PATH"]},
)
signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
ended = os.pidfd_open(daemon.pid)

while True:
    events, _, _ = select.select([notifications, ended], [], [], READY_WITHIN_SECONDS)
    if notifications in events and b"READY=1" in notifications.recv(65536).split(b"\n"):
        break
    if not events or ended in events:
        daemon.kill()
        raise SystemExit("the proxy did not get ready")

print(json.dumps({"port": tcp_port(daemon.pid), "pid": daemon.pid}), flush=True)
sys.exit(daemon.wait())
