"""What was measured, as a page: the figures to reach, then everything."""

import datetime
import statistics

from . import peers
from .figures import OURS, figures
from .processes import machine

PEERS = ("nginx", "haproxy", "envoy")
ABSOLUTE = (*PEERS, "origin")
NAMES = {"nginx": "nginx", "haproxy": "HAProxy, signs", "envoy": "Envoy", "origin": "no proxy, in clear"}


def quartiles(values):
    values = list(values)
    if len(values) == 1:
        return values * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def number(value):
    if value >= 10000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def spread(values, show=number):
    low, middle, high = quartiles(values)
    if len(values) == 1:
        return show(middle)
    return f"{show(middle)} ({show(low)} to {show(high)})"


def ratio(value):
    return f"{value:.2f}"


class Report:
    def __init__(self, session):
        self.session, self.measured = session, session.measured
        self.now = datetime.datetime.now(datetime.timezone.utc)

    def text(self):
        parts = [self.heading(), self.figures(), self.loads(), self.scaling(), self.observability(), self.bridges(), self.micro()]
        return "\n".join(part for part in parts if part)

    def date(self):
        return f"{self.now:%Y-%m-%d}"

    def machine(self):
        return f"{machine()}, load average at the start {self.session.busy:.1f}" + \
            (", in a quick run" if self.session.quick else "")

    def versions(self):
        return ", ".join(f"{name} {version}" for name, version in peers.versions(self.session.tools).items())

    def heading(self):
        kind = "A quick run: few and short rounds, no figures to quote." if self.session.quick else "A full run."
        return "\n".join([
            "# What was measured", "",
            "Written by `make bench`; do not edit. " + kind, "",
            f"- {self.now:%Y-%m-%d %H:%M} UTC, in {self.session.took():.0f} minutes",
            f"- {self.machine()}",
            f"- {self.versions()}",
            f"- {self.session.tools.workers} workers each; load, proxies and origin share the machine", "",
            "Ours is complete (guards, signing, JSON access log into a file, metrics), with an upstream over TLS "
            "with HTTP/1.1 (h1) or HTTP/2 (h2). nginx forwards and logs; HAProxy signs and logs; Envoy forwards; "
            "all three over TLS with HTTP/1.1. Every signature was checked by the origin, and each request "
            "counted once. Ratios are ours ÷ theirs in the same round: median (first to third quartile).", "",
            *(f"**Not to be trusted:** {fault}\n" for fault in self.session.faults),
        ])

    def ratios(self, what, ours, peer):
        of = self.measured.get(what, {})
        mine, theirs = of.get(ours, {}), of.get(peer, {})
        return [mine[turn] / theirs[turn] for turn in mine if theirs.get(turn)]

    def verdicts(self):
        """Each figure to reach that was measured, with its values: ratios, or in its own unit."""
        for figure in figures():
            if figure.peer:
                values = self.ratios(figure.what, figure.ours, figure.peer)
            else:
                values = [value / figure.scale for value in self.measured.get(figure.what, {}).get(figure.ours, {}).values()]
            if values:
                yield figure, values

    def figures(self):
        lines = ["## Figures to reach", "", "| | against | wanted | measured | |", "|---|---|---|---|---|"]
        for figure, values in self.verdicts():
            verdict = "reached" if figure.reached(statistics.median(values)) else "**not reached**"
            show = ratio if figure.peer else number
            against = NAMES.get(figure.peer, figure.peer or "")
            lines.append(f"| {figure.title} | {against} | {figure.wanted()} | {spread(values, show)} | {verdict} |")
        return "\n".join(lines) + "\n"

    def loads(self):
        lines = ["## Everything", "", "| | upstream | ours | " + " | ".join(f"÷ {NAMES[peer]}" for peer in PEERS) + " | "
                 + " | ".join(NAMES[peer] for peer in ABSOLUTE) + " |",
                 "|---|---|---|" + "---|" * len(PEERS + ABSOLUTE)]
        for what, of in self.measured.items():
            for upstream, ours in OURS.items():
                if ours in of:
                    lines.append(self.row(what, of, upstream, ours))
        return "\n".join(lines) + "\n" if len(lines) > 4 else ""

    def row(self, what, of, upstream, ours):
        cells = [what, upstream, spread(of[ours].values())]
        for peer in PEERS:
            values = self.ratios(what, ours, peer)
            cells.append(spread(values, ratio) if values else "")
        cells += [number(statistics.median(of[peer].values())) if of.get(peer) else "" for peer in ABSOLUTE]
        return "| " + " | ".join(cells) + " |"

    def observability(self):
        return self.columns("## Log, metrics and traces, all on and all off", "observability: ")

    def scaling(self):
        return self.columns("## Workers, routes, credentials", "scaling: ")

    def bridges(self):
        return self.columns("## stdio bridges, one ping after the other", "bridge: ")

    def columns(self, heading, prefix):
        """A table with a line for each variant and a column for each measure."""
        measures = [what for what in self.measured if what.startswith(prefix)]
        if not measures:
            return ""
        titles = [what.removeprefix(prefix) for what in measures]
        lines = [heading, "", "| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
        for name in self.measured[measures[0]]:
            cells = [spread(self.measured[what][name].values()) for what in measures]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def micro(self):
        table = self.session.micro_table
        return f"## Microbenchmarks\n\n```\n{table.rstrip()}\n```\n" if table else ""
