"""User-space instructions per request, counted by valgrind: a figure without noise.

Two runs that differ only in the number of requests; the difference has neither start nor end in it. One
connection, so that how many requests are found waiting at a time depends on nothing.
"""

import re

from . import peers
from .processes import started

FEW, CONNECTIONS = 300, 1


def measure(session):
    places = session.places
    for peer in (
        peers.ours(places, session.tools.binary, workers=1),
        peers.ours(places, session.tools.binary, "ours h2", "2", workers=1),
        peers.nginx(places, single=True),
        peers.haproxy(places, single=True),
    ):
        session.say(f"instructions: {peer.name}")
        with session.noted():
            less, more = (count(session, peer, times * FEW) for times in (1, 3))
            session.note("instructions/request", peer.name, (more - less) / (2 * FEW * CONNECTIONS))


def count(session, peer, requests):
    """All that a process executes from its start, through so many requests on each connection, to its end."""
    out = peer.directory / f"callgrind.{requests}"
    before = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--log-file={out}.log"]
    with started(peer, before) as one:
        session.load(one, peer.tcp, "--connections", CONNECTIONS, "--requests", requests, "--seconds", 600)
    found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)
    if not found:
        raise RuntimeError(f"valgrind counted nothing for {peer.name}: {out}.log")
    return int(found.group(1))
