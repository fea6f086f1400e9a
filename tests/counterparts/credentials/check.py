"""Starts issuer, upstream and proxy, asks through each credential, and verifies what arrives.

    python check.py BINARY DAEMON_PY

Prints a sentence a check and closes with `N passed, N failed`.
"""

import http.server
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from types import SimpleNamespace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey

import verify
from issuer import Client, Issuer

SECRET = "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789/+=&"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

seen = []


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = f"http://{self.headers['host']}{self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen.append(SimpleNamespace(method=self.command, url=url, headers=headers, body=body))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A connection that the proxy looked at and left is no news."""


def private_pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def write(name, content):
    path = work / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return f'{{ file = "{path}" }}'


binary, daemon_py = sys.argv[1:]
scratch = tempfile.TemporaryDirectory()
work = pathlib.Path(scratch.name)
keys = {
    "ed25519": ("ED25519", ed25519.Ed25519PrivateKey.generate()),
    "ecdsa-p256-sha256": ("ECDSA_P256_SHA256", ec.generate_private_key(ec.SECP256R1())),
    "rsa-pss-sha512": ("RSA_PSS_SHA512", rsa.generate_private_key(65537, 2048)),
}
client_key = ec.generate_private_key(ec.SECP256R1())
issuer = Issuer([
    Client("basic", "client_secret_basic", SECRET),
    Client("post", "client_secret_post", SECRET),
    Client("jwt", "private_key_jwt", key=ECKey.import_key(public_pem(client_key))),
])
upstream = Server(("127.0.0.1", 0), Upstream)
threading.Thread(target=upstream.serve_forever, daemon=True).start()

secret = write("secret", SECRET)
credentials, checks = {}, {}


def oauth(name, where, proof):
    credentials[name] = f'[credential.{name}.oauth-client-credentials]\n{where}\nclient_id = "{name}"\nscope = "mcp"\n{proof}'
    checks[name] = lambda it: issuer.verify(it.headers["authorization"], name)


oauth("basic", f'token_url = "{issuer.url}/token"', f"client_secret = {secret}")
oauth("post", f'token_url = "{issuer.url}/token"', f'client_secret = {secret}\nclient_auth = "post"')
oauth("jwt", f'issuer = "{issuer.url}"', f"private_key = {write('client.pem', private_pem(client_key))}")
for algorithm, (name, key) in keys.items():
    file = write(f"{algorithm}.pem", private_pem(key))
    credentials[algorithm] = (
        f'[credential.{algorithm}.http-signature]\nkey_id = "k1"\nalgorithm = "{algorithm}"\nkey = {file}\n'
        'expires = "1m"\nnonce = true'
    )
    checks[algorithm] = lambda it, name=name, key=key: verify.http_signature(it, name, public_pem(key))
credentials["hmac-sha256"] = (
    f'[credential.hmac-sha256.http-signature]\nkey_id = "k1"\nalgorithm = "hmac-sha256"\nkey = {secret}\n'
    'components = ["@method", "@target-uri", "@authority", "@path", "@query", "content-type", "content-digest"]'
)
checks["hmac-sha256"] = lambda it: verify.http_signature(it, "HMAC_SHA256", SECRET.encode())
for name, more in [("aws", ""), ("aws-session", f"\nsession_token = {write('session', 'FwoGZXIvYXdzEXAMPLE==')}")]:
    credentials[name] = (
        f'[credential.{name}.aws-sigv4]\nregion = "eu-central-1"\nservice = "execute-api"\n'
        f'access_key_id = "AKIDEXAMPLE"\nsecret_access_key = {write("aws", AWS_SECRET)}{more}'
    )
    checks[name] = lambda it: verify.aws(it, "AKIDEXAMPLE", AWS_SECRET, "eu-central-1", "execute-api")

config = ['[[listener]]\ntcp = "127.0.0.1:0"', '[admin]\nunix = "%s/admin.sock"' % work]
for name, credential in credentials.items():
    config += [
        credential,
        f'[upstream.{name}]\nurl = "http://127.0.0.1:{upstream.server_port}/"\ncredential = "{name}"',
        f'[[route]]\npath = "/{name}/"\nstrip_prefix = true\nupstream = "{name}"',
    ]
config_file = work / "config.toml"
config_file.write_text("\n".join(config))
config_file.chmod(0o600)
log = open(work / "log", "w")
daemon = subprocess.Popen(
    [sys.executable, daemon_py, binary, str(config_file)], stdout=subprocess.PIPE, stderr=log, text=True
)
counts = {"ok": 0, "not ok": 0}


def verdict(sentence, work):
    try:
        work()
        word, detail = "ok", ""
    except Exception as error:
        word, detail = "not ok", f": {error!r}"
    counts[word] += 1
    print(f"{word} {sentence}{detail}", flush=True)


def ask(name, method, path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{name}{path}", method=method, data=body,
        headers={"content-type": "application/json"} if body else {},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
    checks[name](seen[-1])


try:
    port = json.loads(daemon.stdout.readline())["port"]
    for name in credentials:
        call = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        verdict(f"{name}: a call is accepted", lambda: ask(name, "POST", "/mcp", call))
        verdict(f"{name}: so is a path with escapes and a query", lambda: ask(name, "POST", "/a%20b/c%C3%A9?q=1%202&a=b&empty=", call))
        verdict(f"{name}: so is one without a body", lambda: ask(name, "GET", "/mcp", None))
        verdict(f"{name}: so is one of 1 MiB", lambda: ask(name, "POST", "/mcp", b'"' + b"x" * (2**20 - 2) + b'"'))
    per_client = [sum(owner == name for owner, *_ in issuer.tokens.values()) for name in ("basic", "post", "jwt")]
    verdict("each client fetched one token", lambda: per_client == [1, 1, 1] or 1 / 0)
finally:
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)
    log.close()
    said = (work / "log").read_text()


def log_is_clean():
    for told in [SECRET, AWS_SECRET, *issuer.tokens]:
        assert told not in said, "a secret is in the log"


verdict("no secret and no token is in the log", log_is_clean)
if counts["not ok"]:
    print("# the proxy's last words:", *said.splitlines()[-20:], sep="\n#   ")
print(f"{counts['ok']} passed, {counts['not ok']} failed")
sys.exit(counts["not ok"] > 0)
