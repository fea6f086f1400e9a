"""Runs main.py, kills it and starts it again on every SIGHUP: python restarted.py COUNTS

The listening socket stays, so that nobody is refused meanwhile, and every session is forgotten.
Prints one JSON line, {"port": N}.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

listener = socket.create_server(("127.0.0.1", 0))
here = pathlib.Path(__file__).parent
environment = {**os.environ, "COUNTERPART_COUNTS": sys.argv[1], "COUNTERPART_LISTENER": str(listener.fileno())}
signals = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
caught = signal.SIGHUP
while caught == signal.SIGHUP:
    server = subprocess.Popen(
        [sys.executable, str(here / "main.py")],
        env=environment,
        stdout=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
    )
    caught = signal.sigwait(signals)
    server.kill()
    server.wait()
