"""Clients of the daemon that run outside the host, through its files or in its network."""
import json
import socket
import threading
import time


class Connection:
    """One connection to a Unix socket, from outside the host."""

    def __init__(self, path, timeout=30):
        self.socket = connect(path, timeout)
        self.buffer = b""

    def get(self, path):
        self.socket.sendall(request(path))
        head = self.until(b"\r\n\r\n").decode()
        status = int(head.split(" ", 2)[1])
        length = next((int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")), None)
        if length is None:
            return status, None
        while len(self.buffer) < length:
            self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return status, json.loads(body)

    def next_event(self):
        while True:
            line = self.until(b"\n").strip()
            if line.startswith(b"data: "):
                return int(line[6:])

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def more(self):
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionResetError("closed before the answer")
        self.buffer += received

    def close(self):
        self.socket.close()


def connect(path, timeout):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    connection.connect(str(path))
    return connection


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def get(path, target="/echo"):
    connection = Connection(path)
    try:
        return connection.get(target)
    finally:
        connection.close()


class Load:
    """Threads that connect, ask once and close, over and over, and count how that ended."""

    def __init__(self, path, threads=8, target="/echo"):
        self.path, self.target = path, target
        self.outcomes, self.lock, self.stopping = {}, threading.Lock(), threading.Event()
        self.longest = 0.0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                status, _ = get(self.path, self.target)
                outcome = str(status)
            except OSError as error:
                outcome = type(error).__name__
            with self.lock:
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
                self.longest = max(self.longest, time.monotonic() - began)

    @property
    def all_well(self):
        return set(self.outcomes) == {"200"}

    def __str__(self):
        return f"{self.outcomes}, longest {self.longest:.2f} s"
