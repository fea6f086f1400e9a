"""Those who look on: one that takes spans, and one that reads metrics."""

import http.client
import http.server
import socket
import threading
import time


class Collector:
    """Takes what is posted, and counts it."""

    def __enter__(self):
        self.batches = self.bytes = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers["content-length"])
                self.rfile.read(length)
                outer.batches += 1
                outer.bytes += length
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def settle(self):
        """Waits for a batch: the last spans leave within five seconds."""
        deadline = time.monotonic() + 6
        while not self.batches and time.monotonic() < deadline:
            time.sleep(0.1)

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Scraper:
    """Reads /metrics on an admin socket every second."""

    def __init__(self, path):
        self.path, self.pages, self.ended = str(path), 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.scrape, daemon=True)
        self.thread.start()
        return self

    def scrape(self):
        while not self.ended.wait(1):
            connection = http.client.HTTPConnection("localhost", timeout=5)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(5)
            connection.sock.connect(self.path)
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            if answer.status == 200 and b"mcp_auth_proxy_requests_total" in answer.read():
                self.pages += 1
            connection.close()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
