"""An MCP server on the Python SDK with every feature the conformance suite asks for, both eras.

    python main.py [sse]

`sse` serves the transport of 2024-11-05 instead, at /sse. COUNTERPART_COUNTS names a file where calls are
counted, COUNTERPART_LISTENER a descriptor to accept connections on. It has no guard against DNS rebinding on
purpose: the proxy in front must supply it. Prints one JSON line, {"port": N}, once it accepts connections.
"""

import asyncio
import json
import os
import socket
import sys

import conversation
import counting
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
    if "COUNTERPART_COUNTS" in os.environ:
        counting.register(server, os.environ["COUNTERPART_COUNTS"])
    return server


def application():
    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    if "sse" in sys.argv:
        return build().sse_app(transport_security=unguarded)
    return build().streamable_http_app(
        event_store=EventStore(),
        retry_interval=100,
        max_request_body_size=64 * 1024 * 1024,
        transport_security=unguarded,
    )


def listening() -> socket.socket:
    if "COUNTERPART_LISTENER" in os.environ:
        return socket.socket(fileno=int(os.environ["COUNTERPART_LISTENER"]))
    return socket.create_server(("127.0.0.1", 0))


async def serve() -> None:
    app = application()
    listener = listening()
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(serve())
