"""The figures to reach, and whether they were."""

from dataclasses import dataclass
from typing import Optional

OURS = {"h1": "ours h1", "h2": "ours h2"}


@dataclass
class Figure:
    """A limit for ours; against a peer it is one for the ratio."""

    title: str
    what: str
    ours: str
    limit: float
    peer: Optional[str] = None
    at_least: bool = False
    unit: str = ""
    # Of what was measured, one unit.
    scale: float = 1.0

    def wanted(self):
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}{self.unit}"

    def reached(self, value):
        return value >= self.limit if self.at_least else value <= self.limit


def figures():
    for upstream, ours in OURS.items():
        for transport in ("tcp", "unix"):
            where = f"{transport}, {upstream}"
            for connections in (32, 256):
                load = f"{connections} connections, {transport}"
                title = f"throughput, {connections} connections, {where}"
                for peer, limit in (("nginx", 1.10), ("haproxy", 1.25), ("envoy", 2.2)):
                    yield Figure(title, f"{load}: requests/s", ours, limit, peer, at_least=True)
                title = f"CPU per request, {connections} connections, {where}"
                yield Figure(title, f"{load}: CPU µs/request", ours, 1.0, "nginx")
            yield Figure(f"p50, 1 connection, {where}", f"1 connections, {transport}: p50 µs", ours, 1.05, "nginx")
            yield Figure(f"p99, 32 connections, {where}", f"32 connections, {transport}: p99 µs", ours, 0.70, "nginx")
        yield Figure(f"p99 at 2,000/s, {upstream}", "2000/s: p99 µs", ours, 1.0, "nginx")
        yield Figure(f"instructions per request, {upstream}", "instructions/request", ours, 0.80, "haproxy")
        yield Figure(f"delay per event, p99, 1,000 streams, {upstream}", "1000 streams: delay p99 µs", ours, 1.0, "nginx")
        for count in (1000, 5000):
            limit = 32 if upstream == "h1" else 16
            yield Figure(f"memory per stream, {count:,} streams, {upstream}", f"{count} streams: KiB/stream", ours,
                         limit, unit=" KiB")
        yield Figure(f"idle resident memory, {upstream}", "idle: RSS KiB", ours, 9, unit=" MiB", scale=1024)
        yield Figure(f"resident after load, {upstream}", "after load: RSS KiB", ours, 14, unit=" MiB", scale=1024)
        yield Figure(f"start to ready, {upstream}", "start to ready: ms", ours, 8, unit=" ms")
    yield Figure("signature, head and all", "micro: signature, ns", "ours", 600, unit=" ns")
    cpu = "scaling: CPU µs/request"
    yield Figure("CPU per request, 2 workers", cpu, "2 workers", 1.05, "1 worker")
    yield Figure("CPU per request, 1,000 routes and 200 credentials, one in use", cpu, "1000 routes, one in use", 1.03, "1 route")
    yield Figure("CPU per request, 1,000 routes and 200 credentials, all in use", cpu, "1000 routes, all in use", 1.03, "1 route")
    yield Figure("throughput with log, metrics and traces", "observability: requests/s", "all on", 0.85, "all off", at_least=True)
