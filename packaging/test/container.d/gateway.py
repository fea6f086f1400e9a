#!/usr/bin/env python3
"""A gateway that verifies the signature on its own and says whose secret made it.

    gateway.py unix PATH NAME=SECRET...
    gateway.py tls PORT CERTIFICATE KEY NAME=SECRET...
"""

import hashlib
import hmac
import http.server
import os
import socketserver
import ssl
import sys

kind, *rest = sys.argv[1:]
secrets = dict(pair.split("=", 1) for pair in rest if "=" in pair)


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        text = f"{self.command}\n{self.path}\n{self.headers['x-timestamp']}".encode()
        for name, secret in secrets.items():
            wanted = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
            if hmac.compare_digest(wanted, self.headers.get("x-signature", "")):
                return self.answer(200, f"signed with {name}")
        return self.answer(401, "Invalid Signature")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

    def address_string(self):
        return "client"


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if kind == "unix":
    server = UnixServer(rest[0], Gateway)
    os.chmod(rest[0], 0o666)
else:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(rest[0])), Gateway)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rest[1], rest[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
