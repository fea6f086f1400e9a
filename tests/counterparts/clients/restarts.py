"""The Python SDK's client, launching the bridge, while the server behind it is restarted.

    python restarts.py PID COUNTS COMMAND ARGUMENT...

PID restarts the server on SIGHUP, COUNTS is where the server counts.
"""

import asyncio
import collections
import os
import pathlib
import signal
import sys

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from report import Report

PID, COUNTS, *COMMAND = sys.argv[1:]


def counts() -> collections.Counter:
    path = pathlib.Path(COUNTS)
    return collections.Counter(path.read_text().splitlines() if path.exists() else ())


async def call(client: Client, tool: str, number: int) -> str:
    try:
        result = await client.call_tool(tool, {"number": number})
    except Exception as error:
        return str(error)
    return result.content[0].text


async def all_at_once(client: Client, tool: str, numbers: range) -> list[str]:
    return await asyncio.gather(*(call(client, tool, number) for number in numbers))


def restart() -> None:
    os.kill(int(PID), signal.SIGHUP)


async def opens(client: Client) -> bool:
    await client.set_logging_level("debug")
    await client.subscribe_resource("test://watched-resource")
    return await call(client, "count", 0) == "counted 0"


async def survives(client: Client, round: int) -> bool | str:
    numbers = range(100 * round, 100 * round + 20)
    restart()
    answers = await all_at_once(client, "count", numbers)
    wrong = [answer for answer, number in zip(answers, numbers) if answer != f"counted {number}"]
    seen = counts()
    twice = [number for number in numbers if seen[f"count {number}"] != 1]
    sessions = seen["level debug"], seen["subscribe test://watched-resource"]
    return (not wrong and not twice and sessions == (round + 1, round + 1)) or f"{wrong} {twice} {sessions}"


async def fails_once(client: Client) -> bool | str:
    numbers = range(1000, 1010)
    calling = asyncio.create_task(all_at_once(client, "count_slowly", numbers))
    while any(counts()[f"slow {number}"] == 0 for number in numbers):
        await asyncio.sleep(0.02)
    restart()
    answers = await asyncio.wait_for(calling, 20)
    unclear = [answer for answer in answers if "may or may not have been carried out" not in answer]
    twice = [number for number in numbers if counts()[f"slow {number}"] != 1]
    return (not unclear and not twice) or f"{unclear} {twice}"


async def goes_on(client: Client) -> bool | str:
    answer = await call(client, "count", 2000)
    return (answer == "counted 2000" and counts()["count 2000"] == 1) or answer


async def leaves(client: Client) -> bool:
    await client.__aexit__(None, None, None)
    return True


async def main() -> int:
    report = Report("Python SDK, stdio, restarted server:")
    command = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(os.environ))
    client = Client(command, mode="legacy", read_timeout_seconds=30)
    await client.__aenter__()
    await report.check("opens a session", opens(client))
    for round in (1, 2):
        sentence = f"makes twenty calls after restart {round}, each carried out once, in one new session like the old"
        await report.check(sentence, survives(client, round))
    await report.check("hears of each call cut off by a restart once, and none is repeated", fails_once(client))
    await report.check("goes on after that", goes_on(client))
    await report.check("ends its session", leaves(client))
    return report.failed


sys.exit(1 if asyncio.run(main()) else 0)
