"""Prints what a client found, one sentence a line, and remembers whether all of it was well."""

import traceback
from collections.abc import Awaitable


class Report:
    def __init__(self, who: str) -> None:
        self.who = who
        self.failed = 0

    async def check(self, sentence: str, work: Awaitable[bool | str]) -> None:
        """`work` answers True, or what was wrong."""
        try:
            outcome = await work
        except BaseException as error:
            outcome = " ".join(traceback.format_exception_only(error)).strip() or repr(error)
        if outcome is True:
            print(f"ok {self.who} {sentence}", flush=True)
        else:
            self.failed += 1
            print(f"not ok {self.who} {sentence}: {' '.join(str(outcome).split())[:500]}", flush=True)
