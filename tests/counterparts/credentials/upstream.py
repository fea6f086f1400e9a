"""Upstreams on Hypercorn, one for each protocol, that want a client certificate and keep what arrives."""

import asyncio
import socket
import ssl
import threading
from types import SimpleNamespace

from hypercorn.asyncio import serve
from hypercorn.config import Config


class Upstream:
    def __init__(self, protocol, certificates):
        """`protocol` as ALPN calls it; `certificates` has ca.pem, leaf.pem and leaf.key."""
        self.seen, self.put_off = [], False
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.alpn_protocols = [protocol]
        config.certfile, config.keyfile = f"{certificates}/leaf.pem", f"{certificates}/leaf.key"
        config.ca_certs, config.verify_mode = f"{certificates}/ca.pem", ssl.CERT_REQUIRED
        config.accesslog = config.errorlog = None
        threading.Thread(target=lambda: asyncio.run(self.run(config)), daemon=True).start()

    async def run(self, config):
        self.loop = asyncio.get_running_loop()
        self.release = asyncio.Event()
        await serve(self.answer, config, shutdown_trigger=asyncio.Event().wait)

    async def answer(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        self.seen.append(SimpleNamespace(
            method=scope["method"], url=f"https://{headers['host']}{target}", headers=headers, body=body,
            version=scope["http_version"],
        ))
        if target == "/held":
            await self.release.wait()
            self.release.clear()
        # Every other one is put off.
        self.put_off = target == "/busy" and not self.put_off
        status, more = (503, [(b"retry-after", b"0")]) if self.put_off else (200, [])
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": b"{}"})

    def let_go(self):
        """Whoever asked for /held gets its answer."""
        self.loop.call_soon_threadsafe(self.release.set)
