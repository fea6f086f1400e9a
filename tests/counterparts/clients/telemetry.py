"""Takes traces and metrics with OpenTelemetry's own messages and services: over HTTP, and over gRPC
as gRPC's own library speaks it.

    python telemetry.py BINARY DAEMON_PY URL

URL is an MCP server's; nothing is signed on the way there.
"""

import contextlib
import http.server
import json
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import urllib.request
from concurrent import futures

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_service

PATIENCE = 20
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "ping",
        "params": {"_meta": {"traceparent": f"00-{TRACE}-{PARENT}-01"}}}

traces, metrics = queue.Queue(), queue.Queue()


class Traces(trace_service.TraceServiceServicer):
    def Export(self, request, context):
        traces.put((request, dict(context.invocation_metadata())))
        return trace_messages.ExportTraceServiceResponse()


class Metrics(metrics_service.MetricsServiceServicer):
    def Export(self, request, context):
        metrics.put((request, dict(context.invocation_metadata())))
        return metrics_messages.ExportMetricsServiceResponse()


class OverHttp(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    messages = {
        "/v1/traces": (traces, trace_messages.ExportTraceServiceRequest, trace_messages.ExportTraceServiceResponse),
        "/v1/metrics": (metrics, metrics_messages.ExportMetricsServiceRequest,
                        metrics_messages.ExportMetricsServiceResponse),
    }

    def do_POST(self):
        into, request, response = self.messages[self.path]
        body = self.rfile.read(int(self.headers["content-length"]))
        into.put((request.FromString(body), {name.lower(): value for name, value in self.headers.items()}))
        answer = response().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def over_http():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OverHttp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@contextlib.contextmanager
def over_grpc():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service.add_MetricsServiceServicer_to_server(Metrics(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def verdict(is_so, sentence, detail=""):
    print(f"ok {sentence}" if is_so else f"not ok {sentence}: {detail}", flush=True)


def attributes(holder):
    return {one.key: one.value.string_value or one.value.int_value for one in holder.attributes}


def next_of(took, wanted=lambda _: True):
    """The next that is as wanted, and its headers; None if none comes in time."""
    with contextlib.suppress(queue.Empty):
        while True:
            batch, headers = took.get(timeout=PATIENCE)
            if wanted(batch):
                return batch, headers
    return None, {}


def named(batch, name):
    every = (metric for resource in batch.resource_metrics for scope in resource.scope_metrics
             for metric in scope.metrics)
    return next((metric for metric in every if metric.name == name), None)


def answered(batch):
    metric = named(batch, "mcp_auth_proxy_requests")
    return metric and any(point.as_int for point in metric.sum.data_points)


def check(protocol, port, binary, daemon, url, work):
    config = work / "telemetry.toml"
    config.write_text(f"""
[upstream.counterpart]
endpoint = "{url}"
[[listener]]
tcp = "127.0.0.1:0"
[admin]
unix = "{work}/admin.sock"
[telemetry]
endpoint = "http://127.0.0.1:{port}"
protocol = "{protocol}"
metrics_interval = "200ms"
headers = {{ x-token = "t0ken" }}
""")
    (work / "notify.sock").unlink(missing_ok=True)
    with open(work / "telemetry.log", "w") as log:
        process = subprocess.Popen([sys.executable, daemon, binary, config], stdout=subprocess.PIPE, stderr=log)
    try:
        own = json.loads(process.stdout.readline())["port"]
        ask = urllib.request.Request(f"http://127.0.0.1:{own}/mcp", json.dumps(CALL).encode(), {
            "content-type": "application/json", "accept": "application/json, text/event-stream"})
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(ask, timeout=PATIENCE).read()
        batch, headers = next_of(traces)
        spans = [span for resource in batch.resource_spans for scope in resource.scope_spans
                 for span in scope.spans] if batch else []
        span = spans[0] if spans else None
        verdict(span and span.name == "ping" and span.kind == span.SPAN_KIND_SERVER, f"{protocol}: a span is named", spans)
        verdict(span and (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT),
                f"{protocol}: it is the child of what the message names", spans)
        verdict(span and attributes(span).get("mcp.method.name") == "ping", f"{protocol}: it has MCP's attributes", spans)
        service = attributes(batch.resource_spans[0].resource) if batch else {}
        verdict(service.get("service.name") == "mcp-auth-proxy", f"{protocol}: it says whose it is", service)
        verdict(headers.get("x-token") == "t0ken", f"{protocol}: the collector's header comes with it", headers)
        batch, headers = next_of(metrics, answered)
        verdict(batch is not None, f"{protocol}: requests are counted in a sum", "none came")
        duration = named(batch, "mcp_auth_proxy_request_duration_seconds") if batch else None
        points = [point for point in duration.histogram.data_points if point.count] if duration else []
        verdict(points and all(sum(point.bucket_counts) == point.count and
                               len(point.bucket_counts) == len(point.explicit_bounds) + 1 for point in points),
                f"{protocol}: durations are a histogram whose buckets add up", duration)
        verdict(duration and duration.unit == "s", f"{protocol}: its unit is told", duration)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def main():
    binary, daemon, url = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        for protocol, serving in (("http/protobuf", over_http), ("grpc", over_grpc)):
            with serving() as port:
                check(protocol, port, binary, daemon, url, pathlib.Path(work))


main()
