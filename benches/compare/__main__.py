"""Measures ours and its peers; see benches/run, which prepares what this needs."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from . import manual
from .report import Report
from .session import PARTS, Session

# What goes there goes into the manual, too.
PUBLISHED = Path("benches/RESULTS.md")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=None)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    for part in given.only or ():
        if part not in (*PARTS, "training"):
            parser.error(f"{part} is none of {', '.join(PARTS)}")
    return given


def main():
    given = arguments()
    cache = given.cache.resolve()
    programs = dict(line.split(maxsplit=1) for line in (cache / "programs").read_text().splitlines())
    tools = SimpleNamespace(
        binary=(given.binary or cache.parent / "release" / "mcp-auth-proxy").resolve(),
        rig=programs["rig"],
        micro=programs["micro"],
        envoy=cache / "python" / "bin" / "envoy",
        python=cache / "python" / "bin",
        node=cache / "node",
        modules=cache / "npm" / "node_modules",
        workers=min(os.cpu_count(), 8),
    )
    whole = not given.quick and not given.only
    output = given.output or (PUBLISHED if whole else cache / "RESULTS.md")
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        session = Session(tools, work.resolve(), given.quick)
        session.run(given.only or PARTS)
        report = Report(session)
        text = report.text()
        output.write_text(text)
        if output.resolve() == PUBLISHED.resolve():
            manual.update(report)
    print(text)
    session.say(f"written to {os.path.relpath(output)}")
    sys.exit(1 if session.faults else 0)


main()
