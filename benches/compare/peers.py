"""Ours and what it is measured against: configuration, command, where they listen."""

import base64
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .processes import free_port

SECRET = "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"
KEY_ID = "550e8400-e29b-41d4-a716-446655440000"


@dataclass
class Peer:
    """A proxy that can be started; `name` is a column of the results."""

    name: str
    command: list[str]
    directory: Path
    tcp: str
    unix: str
    signs: bool
    # What it is when nothing is proxied yet.
    ready: str = "/healthz"
    log: Path = field(init=False)

    def __post_init__(self):
        self.log = self.directory / "stderr.log"

    def forget_log(self):
        """Access logs of all rounds together would fill a disk."""
        for log in (self.log, self.directory / "access.log"):
            if log.exists():
                os.truncate(log, 0)


class Places:
    """A directory, a port and a socket for each peer."""

    def __init__(self, work: Path, origin: dict, workers: int):
        self.work, self.origin, self.workers = work, origin, workers

    def make(self, name: str) -> tuple[Path, str, str]:
        directory = self.work / name
        directory.mkdir(parents=True, exist_ok=True)
        return directory, f"127.0.0.1:{free_port()}", str(directory / "proxy.sock")


def ours(places, binary, name="ours h1", version="1.1", routes=1, credentials=1, workers=None, level="info", more=""):
    """Complete: guards, signing, JSON access log into a file, metrics. All of that is the default."""
    directory, tcp, unix = places.make(re.sub("[ ,]+", "-", name))
    secret = directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    port = places.origin["h2" if version == "2" else "h1"]
    out = []
    for n in range(credentials):
        # Valgrind makes a handshake take seconds.
        out.append(f'[upstream.u{n}]\nurl = "https://localhost:{port}/"\ncredential = "c{n}"\n'
                   f'connect_timeout = "60s"\nrequest_timeout = "60s"\n'
                   f'ca_file = "{places.work}/origin.pem"\nhttp_version = "{version}"\n'
                   f'[credential.c{n}.auth-gateway]\nkey_id = "{KEY_ID}"\nsecret = {{ file = "{secret}" }}\n')
    if routes > 1 or credentials > 1:
        for n in range(routes):
            out.append(f'[[route]]\npath = "/team-{n}/"\nupstream = "u{n % credentials}"\n')
    out.append(f'[[listener]]\ntcp = "{tcp}"\n[[listener]]\nunix = "{unix}"\n'
               f'[admin]\nunix = "{directory}/admin.sock"\n[log]\nformat = "json"\nlevel = "{level}"\n'
               f'[server]\nworkers = {workers or places.workers}\n{more}')
    config = directory / "config.toml"
    config.write_text("".join(out))
    return Peer(name, [str(binary), "serve", "--config", str(config)], directory, tcp, unix, True)


def nginx(places, single=False):
    """Plain: kept connections, access log, and nothing else."""
    directory, tcp, unix = places.make("nginx-single" if single else "nginx")
    processes = "master_process off;" if single else f"worker_processes {places.workers};"
    if os.geteuid() == 0:
        # Its workers write large bodies to files in a directory that is root's alone.
        processes += " user root;"
    config = directory / "nginx.conf"
    config.write_text(f"""
daemon off; {processes} pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 16384; }}
worker_rlimit_nofile 20000;
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  client_max_body_size 64m; keepalive_requests 100000000;
  upstream origin {{
    server 127.0.0.1:{places.origin["h1"]}; keepalive 512; keepalive_requests 100000000;
  }}
  server {{
    listen {tcp} backlog=4096; listen unix:{unix} backlog=4096;
    location = /healthz {{ access_log off; return 200 ok; }}
    location / {{ proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
""")
    program = "/usr/sbin/nginx"
    # Its directory is /var/lib, which only root may write.
    return Peer("nginx", [program, "-p", str(directory), "-c", str(config), "-e", f"{directory}/error.log"],
                directory, tcp, unix, False)


def haproxy(places, single=False):
    """Signs as we do, with its own converters, and logs."""
    directory, tcp, unix = places.make("haproxy-single" if single else "haproxy")
    key = base64.b64encode(SECRET.encode()).decode()
    config = directory / "haproxy.cfg"
    config.write_text(f"""
global
  nbthread {1 if single else places.workers}
  maxconn 8000
  log stderr format raw local0
defaults
  mode http
  log global
  option httplog
  option dontlognull
  # Events are held back for 200 ms otherwise.
  option http-no-delay
  timeout connect 5s
  timeout client 5m
  timeout server 5m
  timeout http-keep-alive 5m
frontend local
  bind {tcp} backlog 4096
  bind unix@{unix} backlog 4096
  http-request return status 200 content-type text/plain string ok if {{ path /healthz }}
  http-request set-var(txn.now) date,utime(%Y-%m-%dT%H:%M:%SZ)
  http-request set-var-fmt(txn.text) "%[method]\\n%[path,url_dec]\\n%[var(txn.now)]"
  http-request set-header x-api-key-id {KEY_ID}
  http-request set-header x-timestamp %[var(txn.now)]
  http-request set-header x-signature %[var(txn.text),hmac(sha256,{key}),hex,lower]
  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:{places.origin["h1"]} ssl verify none alpn http/1.1 pool-max-conn -1
""")
    return Peer("haproxy", ["/usr/sbin/haproxy", "-db", "-f", str(config)], directory, tcp, unix, True)


def envoy(places, program):
    """Plain, without an access log."""
    directory, tcp, unix = places.make("envoy")
    host, port = tcp.split(":")

    def listener(name, address):
        return f"""
  - name: {name}
    address: {address}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          stream_idle_timeout: 0s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ path: /healthz }}
                direct_response: {{ status: 200 }}
              - match: {{ prefix: / }}
                route: {{ cluster: origin, timeout: 0s }}"""

    config = directory / "envoy.yaml"
    config.write_text(f"""
static_resources:
  listeners:{listener("tcp", f"{{ socket_address: {{ address: {host}, port_value: {port} }} }}")}{
    listener("unix", f"{{ pipe: {{ path: {unix} }} }}")}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds: [{{ max_connections: 16384, max_requests: 16384, max_pending_requests: 16384 }}]
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {places.origin["h1"]} }} }} }}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
""")
    command = [str(program), "-c", str(config), "--concurrency", str(places.workers),
               "--log-level", "error", "--disable-hot-restart"]
    return Peer("envoy", command, directory, tcp, unix, False)


def versions(tools):
    """Of everything that was measured, by asking it."""
    def ask(command, pattern):
        done = subprocess.run(command, capture_output=True, text=True)
        found = re.search(pattern, done.stdout + done.stderr)
        return found.group(1) if found else "unknown"

    package = tools.modules / "mcp-remote" / "package.json"
    return {
        "mcp-auth-proxy": ask([tools.binary, "--version"], r"mcp-auth-proxy (\S+)"),
        "nginx": ask(["/usr/sbin/nginx", "-v"], r"nginx/(\S+)"),
        "HAProxy": ask(["/usr/sbin/haproxy", "-v"], r"version (\S+)"),
        "Envoy": ask([tools.envoy, "--version"], r"/(\d+\.\d+\.\d+)/"),
        "mcp-proxy": ask([tools.python / "pip", "show", "mcp-proxy"], r"\nVersion: (\S+)"),
        "mcp-remote": re.search(r'"version": "([^"]+)"', package.read_text())[1],
    }
