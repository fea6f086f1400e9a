#!/usr/bin/env python3
"""An MCP gateway as the daemon sees it: verifies signatures, answers in JSON, streams events.

    upstream.py --secret SECRET... [--unix PATH] [--tls PORT --certificate FILE --key FILE] [--dns NAME]

/echo says which of the secrets had signed, /slow?SECONDS takes its time, /events never ends. With
--dns it answers queries for NAME on 127.0.0.1:53 with 127.0.0.1. Prints "ready" once all listens.
"""
import argparse
import datetime
import hashlib
import hmac
import http.server
import json
import os
import socket
import socketserver
import ssl
import threading
import time
import urllib.parse

KEY_ID = "package-test"
VALID_FOR = 300


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secrets = []

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        path, _, query = self.path.partition("?")
        signed_with = self.signer(urllib.parse.unquote(path))
        if signed_with is None:
            self.answer(401, {"error": "Invalid Signature"})
        elif path == "/events":
            self.stream()
        else:
            if path == "/slow":
                time.sleep(float(query))
            self.answer(200, {"secret": signed_with, "path": path, "id": self.headers["x-request-id"]})

    do_POST = do_GET

    def signer(self, path):
        stamp = self.headers.get("x-timestamp", "")
        try:
            then = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            return None
        late = abs(time.time() - then.timestamp()) > VALID_FOR
        if late or self.headers.get_all("x-api-key-id") != [KEY_ID]:
            return None
        message = f"{self.command}\n{path}\n{stamp}".encode()
        for secret in self.secrets:
            if [hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()] == self.headers.get_all("x-signature"):
                return secret
        return None

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        number = 0
        try:
            while True:
                self.wfile.write(b"data: %d\n\n" % number)
                number += 1
                time.sleep(0.1)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        pass


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)
        os.chmod(self.server_address, 0o666)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("unix", 0)


def answer_names(name):
    wanted = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve_names, args=(server, wanted), daemon=True).start()


def serve_names(server, wanted):
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        known = question[:-4].lower() == wanted
        is_a = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if known and is_a else b""
        flags = b"\x81\x80" if known else b"\x81\x83"
        head = query[:2] + flags + b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
        server.sendto(head + question + answer, client)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--secret", action="append", required=True)
    parser.add_argument("--unix")
    parser.add_argument("--tls", type=int)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--dns")
    options = parser.parse_args()
    Handler.secrets = options.secret
    servers = []
    if options.unix:
        servers.append(UnixServer(options.unix, Handler))
    if options.tls:
        server = Server(("127.0.0.1", options.tls), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
    if options.dns:
        answer_names(options.dns)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
