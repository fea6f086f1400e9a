"""The figures in the manual: written from a run, never by hand."""

import statistics
from pathlib import Path

from .report import NAMES, number, ratio

PAGE = Path("man/mcp-auth-proxy-performance.7")
BEGIN, END = '.\\" measured: from here on written by benches/run\n', '.\\" measured: up to here\n'


def update(report):
    page = PAGE.read_text()
    front, rest = page.split(BEGIN)
    _, back = rest.split(END)
    PAGE.write_text(front + BEGIN + section(report) + END + back)


def section(report):
    rows = [row for row in report.verdicts() if "unix" not in row[0].title]
    widest = max((row[0].title for row in rows), key=len)
    lines = [f"On {report.date()}, {report.machine()}:".replace("×", "x"),
             f'.Bl -column "{widest}" "{NAMES["haproxy"]}" "10.0 KiB"', ".It what Ta against Ta measured"]
    for figure, values in rows:
        middle = statistics.median(values)
        shown = ratio(middle) if figure.peer else number(middle) + figure.unit
        lines.append(f".It {figure.title} Ta {NAMES.get(figure.peer, figure.peer or '-')} Ta {shown}")
    return "\n".join([*lines, ".El", ".Pp", report.versions() + ".", ".Pp"]) + "\n"
