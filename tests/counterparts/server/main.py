"""An MCP server on the Python SDK with every feature the conformance suite asks for, both eras.

It has no guard against DNS rebinding on purpose: the proxy in front must supply it.
Prints one JSON line, {"port": N}, once it accepts connections.
"""

import asyncio
import json
import socket

import conversation
import features
import rounds
import uvicorn
from events import EventStore
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings


def build() -> MCPServer:
    server = MCPServer("counterpart", version="1.0.0", log_level="ERROR")
    features.register(server)
    conversation.register(server)
    rounds.register(server)
    return server


async def serve() -> None:
    app = build().streamable_http_app(
        event_store=EventStore(),
        retry_interval=100,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(serve())
