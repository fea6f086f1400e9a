"""Starting, watching and stopping the programs that are measured."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Rig:
    """The program that drives loads; see benches/rig."""

    def __init__(self, program):
        self.program = str(program)

    def __call__(self, *arguments, patience=120):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True,
                              timeout=patience)
        if done.returncode:
            raise RuntimeError(f"rig {' '.join(map(str, arguments[:2]))}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *arguments):
        """A command that talks while it runs: the process, its first line read."""
        process = subprocess.Popen([self.program, *map(str, arguments)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"rig {' '.join(map(str, arguments[:2]))} ended")
            yield process, json.loads(line)
        finally:
            process.kill()
            process.wait()


class Running:
    """A peer that is up."""

    def __init__(self, peer, process):
        self.peer, self.process = peer, process

    def pids(self):
        """The process and its children: nginx works in those."""
        pids = [self.process.pid]
        for pid in pids:
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                pids += map(int, children.read().split())
        return pids

    def cpu(self):
        """Seconds on a processor so far, user and system, to the nanosecond."""
        # The kernel's encoding of "processor time of process PID" (clock_getcpuclockid(3)).
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def resident(self):
        """KiB."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as status:
                total += next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return total


def answers(address, path):
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            return stream.recv(12).endswith(b" 200")
    except OSError:
        return False


@contextmanager
def started(peer, before=()):
    """`before` is put in front of the command: valgrind."""
    # nginx, when killed, leaves it and then takes it for another's.
    Path(peer.unix).unlink(missing_ok=True)
    with open(peer.log, "ab") as log:
        process = subprocess.Popen([*before, *peer.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(peer.tcp, peer.ready):
            if process.poll() is not None or time.monotonic() > deadline:
                with open(peer.log, errors="replace") as log:
                    raise RuntimeError(f"{peer.name} does not start: {log.read()[-2000:]}")
            time.sleep(0.02)
        yield Running(peer, process)
    finally:
        stop(process)


def stop(process):
    # Again and again: nginx overlooks one that comes just before it waits, and valgrind makes that likely.
    for _ in range(6):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    process.wait()


def machine():
    """What it ran on, in a line."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    with open("/proc/meminfo") as meminfo:
        memory = int(meminfo.readline().split()[1]) / 1024 / 1024
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {os.uname().release}"
