"""The bridge, driven line by line, as no SDK would: python lines.py SERVER COMMAND ARGUMENT..."""

import asyncio
import json
import pathlib
import re
import signal
import sys
import time

from report import Report

SERVER, *COMMAND = sys.argv[1:]
TOOLS = json.loads((pathlib.Path(__file__).parent / "servers.json").read_text())[SERVER]
LIMIT = 64 * 1024 * 1024
# The second is no number that a double can hold, the last is what the server may send back as another text.
IDS = ["0", "9223372036854775808", '"0"', "-7", '"\\u00e9"', '"a \\"word\\""']


class Bridge:
    async def start(self) -> "Bridge":
        pipe = asyncio.subprocess.PIPE
        self.child = await asyncio.create_subprocess_exec(*COMMAND, stdin=pipe, stdout=pipe, limit=LIMIT)
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "lines", "version": "1"}}
        await self.ask('"opening"', "initialize", client)
        (opened,) = await self.answers(1)
        assert '"result"' in opened, opened
        await self.say('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return self

    async def say(self, line: str) -> None:
        self.child.stdin.write(f"{line}\n".encode())
        await self.child.stdin.drain()

    async def ask(self, id: str, method: str, params: dict) -> None:
        await self.say(f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{json.dumps(params)}}}')

    async def answers(self, count: int) -> list[str]:
        """So many lines that are answers; all there are if `count` is never reached."""
        found = []
        while len(found) < count and (line := await asyncio.wait_for(self.child.stdout.readline(), 30)):
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0", line
            if "method" not in message:
                found.append(line.decode())
        return found


def id_of(answer: str) -> str:
    """As it stands in the text."""
    return re.search(r'"id":\s*("(?:[^"\\]|\\.)*"|[^,}\s]+)', answer)[1]


async def keeps_ids() -> bool | str:
    bridge = await Bridge().start()
    for id in IDS:
        await bridge.ask(id, "ping", {})
    answers = await bridge.answers(len(IDS))
    bridge.child.stdin.close()
    answers += await bridge.answers(LIMIT)
    found = sorted(id_of(answer) for answer in answers)
    refused = [id_of(answer) for answer in answers if '"result"' not in answer]
    # The first TypeScript SDK takes such a number for no id, and says so, though not to whom.
    good = found == sorted(IDS) and refused == ([IDS[1]] if SERVER == "everything" else [])
    return (good and await bridge.child.wait() == 0) or str(answers)


async def passes_20_mib() -> bool | str:
    bridge = await Bridge().start()
    tool, parameter = TOOLS["echo"]
    text = "0123456789abcdef" * (20 * 1024 * 1024 // 16)
    await bridge.ask("1", "tools/call", {"name": tool, "arguments": {parameter: text}})
    (answer,) = await bridge.answers(1)
    bridge.child.stdin.close()
    return (text in answer and await bridge.child.wait() == 0) or answer[:200]


async def leaves_in_time(how: str) -> bool | str:
    bridge = await Bridge().start()
    tool, arguments = TOOLS["long"]
    params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    await bridge.ask("1", "tools/call", params)
    # The answer to what is asked later comes at once: the call is in flight.
    await bridge.ask("2", "ping", {})
    await bridge.answers(1)
    start = time.monotonic()
    if how == "the end of input":
        bridge.child.stdin.close()
    else:
        bridge.child.send_signal(signal.SIGTERM)
    answers = await bridge.answers(LIMIT)
    code = await bridge.child.wait()
    seconds = time.monotonic() - start
    told = len(answers) == 1 and id_of(answers[0]) == "1" and '"stopped"' in answers[0]
    return (told and code == 0 and seconds < 2) or f"{answers}, {code} after {seconds:.1f} s"


async def main() -> int:
    report = Report(f"lines, stdio, {SERVER}:")
    await report.check("gets each answer under the id it chose, and none twice", keeps_ids())
    if SERVER == "counterpart":
        # The other one takes no more than 4 MiB, whoever sends it.
        await report.check("sends and gets 20 MiB in one line", passes_20_mib())
    for how in ("the end of input", "SIGTERM"):
        await report.check(f"ends with 0 within 2 s on {how}, and the call in flight is answered", leaves_in_time(how))
    return report.failed


sys.exit(1 if asyncio.run(main()) else 0)
