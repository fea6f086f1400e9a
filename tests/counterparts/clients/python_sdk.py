"""The Python SDK's client over TCP.

    python python_sdk.py URL SERVER ERA

SERVER is a key of servers.json, ERA is `modern` (2026-07-28) or one before it.
"""

import asyncio
import json
import pathlib
import sys
import time

import mcp_types as types
from mcp.client.client import Client
from report import Report

URL, SERVER, ERA = sys.argv[1:]
LEGACY = ERA != "modern"
TOOLS = json.loads((pathlib.Path(__file__).parent / "servers.json").read_text())[SERVER]
asked: list[str] = []
logged = asyncio.Queue()


async def sample(context, params) -> types.CreateMessageResult:
    asked.append("sampling")
    content = types.TextContent(type="text", text="forty-two")
    return types.CreateMessageResult(role="assistant", content=content, model="none", stop_reason="endTurn")


async def elicit(context, params) -> types.ElicitResult:
    asked.append("elicitation")
    return types.ElicitResult(action="accept", content={"name": "Ada", "username": "ada", "email": "ada@localhost"})


async def roots(context) -> types.ListRootsResult:
    asked.append("roots")
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp", name="tmp")])


async def log(params) -> None:
    logged.put_nowait(params)


def text(result) -> str:
    return "".join(part.text for part in result.content if part.type == "text")


async def lists(client: Client) -> bool | str:
    tools = [tool.name for tool in (await client.list_tools()).tools]
    prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
    resources = (await client.list_resources()).resources
    return (TOOLS["echo"][0] in tools and TOOLS["prompt"] in prompts and len(resources) > 0) or str(tools + prompts)


async def reads(client: Client) -> bool | str:
    resource = await client.read_resource(TOOLS["resource"])
    prompt = await client.get_prompt(TOOLS["prompt"])
    return bool(resource.contents[0].text and prompt.messages[0].content.text)


async def echoes(client: Client, words: str) -> bool | str:
    tool, parameter = TOOLS["echo"]
    answer = text(await client.call_tool(tool, {parameter: words}))
    return answer in (words, f"Echo: {words}") or f"{len(answer)} characters came back: {answer[:80]}"


async def echoes_at_once(client: Client) -> bool | str:
    answers = await asyncio.gather(*(echoes(client, f"call {number}") for number in range(20)))
    return all(answer is True for answer in answers) or str([a for a in answers if a is not True])


async def streams_progress(client: Client) -> bool | str:
    arrived: list[float] = []

    async def on_progress(progress, total, message) -> None:
        arrived.append(time.monotonic())

    await client.call_tool(*TOOLS["progress"], progress_callback=on_progress)
    ahead = time.monotonic() - arrived[0]
    return (len(arrived) == 3 and ahead > 0.09) or f"{len(arrived)} events, the first {ahead:.3f} s ahead of the answer"


async def asks(client: Client, tool: str, *kinds: str) -> bool | str:
    asked.clear()
    result = await client.call_tool(*TOOLS[tool])
    return (not result.is_error and set(kinds) <= set(asked)) or f"asked {asked}, answered {text(result)}"


async def logs(client: Client) -> bool | str:
    await client.call_tool(*TOOLS["logging"])
    return await asyncio.wait_for(logged.get(), 5) is not None


async def pushes(client: Client) -> bool | str:
    # What is pushed before the GET stream stands is lost, so push again until something comes.
    for _ in range(20):
        await client.call_tool(*TOOLS["pushed"])
        try:
            return await asyncio.wait_for(logged.get(), 0.5) is not None
        except TimeoutError:
            continue
    return "nothing came over the GET stream"


async def fails(client: Client) -> bool | str:
    result = await client.call_tool(*TOOLS["failing"])
    return (result.is_error and "intentionally" in text(result)) or text(result)


async def resumes(client: Client) -> bool | str:
    answer = text(await client.call_tool(*TOOLS["resumed"]))
    return "completed" in answer or answer


async def mirrors(client: Client) -> bool | str:
    tool, arguments = TOOLS["mirrored"]
    await client.list_tools(cache_mode="refresh")
    answer = text(await client.call_tool(tool, arguments))
    return answer == arguments["region"] or answer


async def hears_changes(client: Client) -> bool | str:
    async with client.listen(tools_list_changed=True) as changes:
        await client.call_tool(*TOOLS["change"])
        return await asyncio.wait_for(anext(changes), 5) is not None


async def image(client: Client) -> bool | str:
    result = await client.call_tool(*TOOLS["image"])
    return any(part.type == "image" for part in result.content)


async def connects(client: Client) -> bool | str:
    await client.__aenter__()
    version = client.protocol_version
    return (version == "2026-07-28") is not LEGACY or version


async def leaves(client: Client) -> bool:
    await client.__aexit__(None, None, None)
    return True


async def main() -> int:
    report = Report(f"Python SDK, {SERVER}, {ERA}:")
    client = Client(
        URL,
        mode="legacy" if LEGACY else "auto",
        sampling_callback=sample,
        elicitation_callback=elicit,
        list_roots_callback=roots,
        logging_callback=log,
        log_level=None if LEGACY else "debug",
        read_timeout_seconds=20,
    )
    await report.check("connects in the era it wants", connects(client))
    if report.failed:
        return report.failed
    await report.check("lists tools, prompts and resources", lists(client))
    await report.check("reads a resource and a prompt", reads(client))
    await report.check("gets back what it sent, in any script", echoes(client, "Grüße, 世界 👋 \u2028"))
    await report.check("gets back a long text whole", echoes(client, "long " * 80_000))
    await report.check("makes twenty calls at once and gets each its own answer", echoes_at_once(client))
    await report.check("gets an image", image(client))
    await report.check("sees progress while the tool still runs", streams_progress(client))
    if LEGACY:
        await report.check("is asked to sample in the middle of a call", asks(client, "sampling", "sampling"))
        await report.check("is asked to elicit in the middle of a call", asks(client, "elicitation", "elicitation"))
    elif "rounds" in TOOLS:
        kinds = ("sampling", "elicitation", "roots")
        await report.check("supplies what a tool asks for in rounds", asks(client, "rounds", *kinds))
        await report.check("mirrors a parameter in a header", mirrors(client))
        await report.check("hears over subscriptions/listen that tools changed", hears_changes(client))
    if "logging" in TOOLS:
        await report.check("receives log messages", logs(client))
    if "failing" in TOOLS:
        await report.check("sees a tool's failure", fails(client))
    if LEGACY and "pushed" in TOOLS:
        await report.check("receives over the GET stream", pushes(client))
    if LEGACY and "resumed" in TOOLS:
        await report.check("resumes a stream that was cut", resumes(client))
    await report.check("ends its session", leaves(client))
    return report.failed


sys.exit(1 if asyncio.run(main()) else 0)
