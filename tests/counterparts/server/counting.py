"""Writes down, in a file that outlives the server, what was carried out and what a session was asked for."""

import asyncio
import pathlib

import mcp_types as types
from mcp.server.mcpserver import MCPServer


def register(server: MCPServer, path: str) -> None:
    def note(line: str) -> None:
        with pathlib.Path(path).open("a") as file:
            file.write(f"{line}\n")

    @server.tool(description="Is counted")
    def count(number: int) -> str:
        note(f"count {number}")
        return f"counted {number}"

    @server.tool(description="Is counted, and takes its time")
    async def count_slowly(number: int) -> str:
        note(f"slow {number}")
        await asyncio.sleep(30)
        return f"counted {number}"

    async def set_level(ctx, params) -> types.EmptyResult:
        note(f"level {params.level}")
        return types.EmptyResult()

    async def subscribe(ctx, params) -> types.EmptyResult:
        note(f"subscribe {params.uri}")
        return types.EmptyResult()

    add = server._lowlevel_server.add_request_handler
    add("logging/setLevel", types.SetLevelRequestParams, set_level)
    add("resources/subscribe", types.SubscribeRequestParams, subscribe)
