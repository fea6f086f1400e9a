"""One run of everything: which rounds there are, and what each of them measures."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack, contextmanager

from . import instructions, peers, training
from .collector import Collector, Scraper
from .processes import Rig, started


PARTS = ("steady", "scaling", "observability", "memory", "streams", "start", "bridges", "micro", "instructions")


class Wrong(Exception):
    """A result that must not stand: a refused signature, a lost request."""


class Session:
    def __init__(self, tools, work, quick):
        self.tools, self.work, self.quick = tools, work, quick
        self.rig = Rig(tools.rig)
        # measured[what][peer][round]
        self.measured = defaultdict(lambda: defaultdict(dict))
        self.turn = 0
        self.faults = []
        self.micro_table = ""
        self.began, self.busy = time.monotonic(), os.getloadavg()[0]

    def say(self, text):
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", file=sys.stderr, flush=True)

    def took(self):
        """Minutes."""
        return (time.monotonic() - self.began) / 60

    def note(self, what, peer, value):
        self.measured[what][peer][self.turn] = value

    # -- what is checked of every load ------------------------------------------------------------

    def counts(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.origin['clear']}/counts", timeout=10) as answer:
            return json.load(answer)

    def checked(self, peer, before, sent):
        """Each request arrived once, signed as it should be or, from those that do not sign, not at all."""
        after = self.counts()
        grown = {kind: after[kind] - before[kind] for kind in after}
        expected = {"accepted": 0, "refused": 0, "unsigned": 0}
        expected["accepted" if peer.signs else "unsigned"] = sent
        if grown != expected:
            raise Wrong(f"{peer.name}: sent {sent}, but the origin counted {grown}")

    def load(self, running, target, *options):
        """One load on one peer: what the rig says, and the processor time that each request took."""
        before, cpu = self.counts(), running.cpu()
        result = self.rig("load", target, *options)
        cpu = running.cpu() - cpu
        running.peer.forget_log()
        if result["faults"]["count"] or not result["requests"]:
            raise Wrong(f"{running.peer.name}: {result['faults']} {options}")
        self.checked(running.peer, before, result["requests"])
        result["cpu_us"] = cpu / result["requests"] * 1e6
        return result

    # -- the parts --------------------------------------------------------------------------------

    def run(self, parts):
        with self.rig.running("origin", self.work, "--secret", peers.SECRET) as (_, self.origin):
            self.places = peers.Places(self.work, self.origin, self.tools.workers)
            for part in parts:
                self.turn = 0
                with self.noted():
                    getattr(self, part)()

    @contextmanager
    def noted(self):
        """What goes wrong costs its own figure, and is told; the rest goes on."""
        try:
            yield
        except (Wrong, RuntimeError) as fault:
            self.faults.append(str(fault))
            self.say(f"WRONG: {fault}")

    def instructions(self):
        instructions.measure(self)

    def training(self):
        """Only where it is asked for: see benches/train."""
        training.train(self)

    def contenders(self):
        binary = self.tools.binary
        return [
            peers.nginx(self.places),
            peers.ours(self.places, binary),
            peers.ours(self.places, binary, "ours h2", "2"),
            peers.haproxy(self.places),
            peers.envoy(self.places, self.tools.envoy),
        ]

    def loads(self):
        """Name, options, transports of each load; seconds are for one peer in one round."""
        seconds = 0.8 if self.quick else 2
        transports = ["tcp"] if self.quick else ["tcp", "unix"]
        for connections in (1, 32, 256):
            for transport in transports:
                yield (f"{connections} connections, {transport}", transport,
                       ["--connections", connections, "--seconds", seconds])
        for rate in (2000,) if self.quick else (500, 2000):
            yield f"{rate}/s", "tcp", ["--connections", 16, "--seconds", seconds, "--rate", rate]
        if self.quick:
            return
        yield "churn", "tcp", ["--connections", 8, "--seconds", seconds, "--churn"]
        yield "64 KiB answers", "tcp", ["--connections", 16, "--seconds", seconds, "--path", "/bytes/65536"]
        yield "16 MiB answers", "tcp", ["--connections", 2, "--seconds", seconds, "--path", "/bytes/16777216"]
        yield "4 MiB uploads", "tcp", ["--connections", 2, "--seconds", seconds, "--upload", 4 << 20]

    def rounds(self, running, measure):
        """Each round gives every peer its turn, in an order that moves on."""
        count = 3 if self.quick else 5
        for self.turn in range(count):
            first = self.turn % len(running)
            for one in running[first:] + running[:first]:
                with self.noted():
                    measure(one)

    def steady(self):
        with ExitStack() as stack:
            running = [stack.enter_context(started(peer)) for peer in self.contenders()]
            for one in running:
                self.rig("load", one.peer.tcp, "--connections", 64, "--seconds", 0.5)
            for name, transport, options in self.loads():
                self.say(name)

                def measure(one, name=name, transport=transport, options=options):
                    result = self.load(one, getattr(one.peer, transport), *options)
                    self.note_load(name, one.peer.name, result)
                    self.note(f"{name}: CPU µs/request", one.peer.name, result["cpu_us"])

                self.rounds(running, measure)
                # Nothing in between: the most that any proxy could reach here.
                alone = self.rig("load", f"127.0.0.1:{self.origin['clear']}", *options)
                self.note_load(name, "origin", alone)

    def note_load(self, name, peer, result):
        self.note(f"{name}: requests/s", peer, result["per_second"])
        for share in ("p50", "p99"):
            self.note(f"{name}: {share} µs", peer, result["us"][share])

    def scaling(self):
        """What a second worker, and what many routes and credentials cost."""
        binary, most = self.tools.binary, 1000
        variants = [
            (peers.ours(self.places, binary, "1 worker", workers=1), []),
            (peers.ours(self.places, binary, "2 workers", workers=2), []),
            (peers.ours(self.places, binary, "1 route", routes=1), []),
            (peers.ours(self.places, binary, "1000 routes, one in use", routes=most, credentials=200),
             ["--path", "/team-500/mcp"]),
            (peers.ours(self.places, binary, "1000 routes, all in use", routes=most, credentials=200),
             ["--path", "/team-{}/mcp", "--paths", most]),
        ]
        self.say("workers, routes, credentials")
        with ExitStack() as stack:
            running = [stack.enter_context(started(peer)) for peer, _ in variants]
            extra = {peer.name: options for peer, options in variants}
            for one in running:
                self.rig("load", one.peer.tcp, "--connections", 32, "--seconds", 0.5, *extra[one.peer.name])

            def measure(one):
                options = ["--connections", 32, "--seconds", 1 if self.quick else 3, *extra[one.peer.name]]
                result = self.load(one, one.peer.tcp, *options)
                self.note("scaling: CPU µs/request", one.peer.name, result["cpu_us"])
                self.note("scaling: requests/s", one.peer.name, result["per_second"])

            self.rounds(running, measure)

    def observability(self):
        """What it costs to be seen: a line of JSON for each request into a file, metrics read every second,
        a tenth of the requests traced; against the same without all three."""
        self.say("observability")
        binary = self.tools.binary
        with ExitStack() as stack:
            collector = stack.enter_context(Collector())
            telemetry = (f'[telemetry]\nendpoint = "http://127.0.0.1:{collector.port}"\nmetrics = false\n'
                         f'sample_percent = 10\n')
            contenders = [
                peers.ours(self.places, binary, "all off", level="error"),
                peers.ours(self.places, binary, "all on", more=telemetry),
            ]
            running = [stack.enter_context(started(peer)) for peer in contenders]
            for one in running:
                self.rig("load", one.peer.tcp, "--connections", 32, "--seconds", 0.5)
            scraper = stack.enter_context(Scraper(contenders[1].directory / "admin.sock"))

            def measure(one):
                options = ["--connections", 32, "--seconds", 1 if self.quick else 4]
                result = self.load(one, one.peer.tcp, *options)
                self.note("observability: CPU µs/request", one.peer.name, result["cpu_us"])
                self.note("observability: requests/s", one.peer.name, result["per_second"])

            self.rounds(running, measure)
            collector.settle()
            self.say(f"{collector.batches} batches of spans, {collector.bytes / 1e6:.1f} MB; {scraper.pages} pages of metrics")
            if not collector.batches or not scraper.pages:
                raise Wrong("observability: nothing was traced or scraped")

    def memory(self):
        """Idle, and after a load of many connections has gone again; each time a fresh process."""
        self.say("memory, idle and after load")
        for peer in self.contenders():
            with self.noted(), started(peer) as one:
                time.sleep(0.5)
                self.note("idle: RSS KiB", peer.name, one.resident())
                for connections in (32, 256):
                    self.load(one, peer.tcp, "--connections", connections, "--seconds", 1)
                time.sleep(0.5)
                self.note("after load: RSS KiB", peer.name, one.resident())

    def streams(self):
        for count in (1000,) if self.quick else (1000, 5000):
            for self.turn in range(1 if self.quick else 3):
                self.say(f"{count} event streams, round {self.turn + 1}")
                for peer in self.contenders():
                    # Quick is for ours and the plain hop.
                    if not self.quick or peer.name.startswith(("ours", "nginx")):
                        with self.noted():
                            self.hold(peer, count)

    def hold(self, peer, count):
        with started(peer) as one:
            self.load(one, peer.tcp, "--connections", 4, "--seconds", 0.3)
            before, counts, cpu = one.resident(), self.counts(), one.cpu()
            command = ["streams", peer.tcp, "--streams", count, "--seconds", 2 if self.quick else 4]
            with self.rig.running(*command) as (process, opened):
                if opened["open"] != count:
                    raise Wrong(f"{peer.name}: {opened['open']} of {count} streams opened")
                self.checked(peer, counts, count)
                time.sleep(1)
                per_stream = (one.resident() - before) / count
                process.stdin.write("\n")
                process.stdin.flush()
                result = json.loads(process.stdout.readline())
            if result["faults"]["count"]:
                raise Wrong(f"{peer.name}: {result['faults']}")
            name = f"{count} streams"
            self.note(f"{name}: KiB/stream", peer.name, per_stream)
            self.note(f"{name}: delay p50 µs", peer.name, result["delay_us"]["p50"])
            self.note(f"{name}: delay p99 µs", peer.name, result["delay_us"]["p99"])
            self.note(f"{name}: first byte p50 µs", peer.name, result["first_us"]["p50"])
            self.note(f"{name}: first byte p99 µs", peer.name, result["first_us"]["p99"])

    def start(self):
        self.say("start to ready")
        for peer in self.contenders():
            times = 5 if self.quick else 20
            result = self.rig("ready", peer.tcp, "--path", peer.ready, "--times", times, "--", *peer.command)
            for self.turn, milliseconds in enumerate(result["ms"]):
                self.note("start to ready: ms", peer.name, milliseconds)

    def bridges(self):
        """Straight at the origin, in clear; ours also as it is used: through the daemon, signed, over TLS."""
        self.say("stdio bridges")
        url = f"http://127.0.0.1:{self.origin['clear']}/rpc"
        with started(peers.ours(self.places, self.tools.binary)) as one:
            socket = one.peer.unix
            bridges = {
                "ours": [self.tools.binary, "stdio", "--url", url],
                "ours through the daemon": [self.tools.binary, "stdio", "--socket", socket, "--route", "/rpc"],
                "mcp-proxy": [self.tools.python / "mcp-proxy", "--transport", "streamablehttp", url],
                "mcp-remote": [self.tools.node, self.tools.modules / "mcp-remote" / "dist" / "proxy.js", url,
                               "--allow-http", "--transport", "http-only"],
            }
            for self.turn in range(1 if self.quick else 5):
                for name, command in bridges.items():
                    with self.noted():
                        self.converse(name, command)

    def converse(self, name, command):
        result = self.rig("bridge", "--pings", 300, "--", *command)
        self.note("bridge: round trip p50 µs", name, result["us"]["p50"])
        self.note("bridge: round trip p99 µs", name, result["us"]["p99"])
        self.note("bridge: RSS KiB", name, result["rss_kib"])
        self.note("bridge: start ms", name, result["start_ms"])

    def micro(self):
        """The steps by themselves; of the signature the median is a figure."""
        self.say("microbenchmarks")
        done = subprocess.run([self.tools.micro, "--bench"], capture_output=True, text=True, check=True)
        self.micro_table = done.stdout
        found = re.search(r"─ signature +[^│]+│[^│]+│ ([0-9.]+) (ns|µs|ms)", done.stdout)
        self.note("micro: signature, ns", "ours", float(found[1]) * {"ns": 1, "µs": 1e3, "ms": 1e6}[found[2]])
