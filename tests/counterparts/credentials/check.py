"""Starts issuer, upstreams and proxy, asks through each credential in every way, and verifies what arrives.

    python check.py BINARY DAEMON_PY CERTIFICATES

Prints a sentence a check; `run` counts them.
"""

import http.client
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey

import verify
from issuer import Client, Issuer
from upstream import Upstream

KEY_ID = "550e8400-e29b-41d4-a716-446655440000"
SECRET = "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789/+=&"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
JSON = {"content-type": "application/json"}


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


binary, daemon_py, certificates = sys.argv[1:]
scratch = tempfile.TemporaryDirectory()
work = pathlib.Path(scratch.name)
subprocess.run([certificates, work], check=True)
client_key = ec.generate_private_key(ec.SECP256R1())
issuer = Issuer([
    Client("basic", "client_secret_basic", SECRET),
    Client("post", "client_secret_post", SECRET),
    Client("jwt", "private_key_jwt", key=ECKey.import_key(public_pem(client_key))),
])
upstreams = {"h1": Upstream("http/1.1", work), "h2": Upstream("h2", work)}

secret = write("secret", SECRET)
credentials, checks = {}, {}


def credential(name, scheme, toml, check):
    credentials[name] = f"[credential.{name}.{scheme}]\n{toml}"
    checks[name] = check


def oauth(name, where, proof):
    toml = f'{where}\nclient_id = "{name}"\nscope = "mcp"\n{proof}'
    credential(name, "oauth-client-credentials", toml, lambda it: issuer.verify(it.headers["authorization"], name))


gateway = f'key_id = "{KEY_ID}"\nsecret = {secret}'
credential("gateway", "auth-gateway", gateway, lambda it: verify.gateway(it, KEY_ID, SECRET))
credential(
    "relative", "auth-gateway",
    f'{gateway}\nsignature_header = "x-mac"\nnonce_header = "x-nonce"\ndigest_header = "x-digest"',
    lambda it: verify.gateway(it, KEY_ID, SECRET, mac="x-mac", nonce="x-nonce", digest="x-digest"),
)
credential(
    "headers", "headers", f'x-tenant = "acme"\nx-token = {secret}',
    lambda it: verify.exactly(it, x_tenant="acme", x_token=SECRET),
)
credential("bearer", "bearer", f"token = {secret}", lambda it: verify.exactly(it, authorization=f"Bearer {SECRET}"))
oauth("basic", f'token_url = "{issuer.url}/token"', f"client_secret = {secret}")
oauth("post", f'token_url = "{issuer.url}/token"', f'client_secret = {secret}\nclient_auth = "post"')
oauth("jwt", f'issuer = "{issuer.url}"', f"private_key = {write('jwt.pem', private_pem(client_key))}")
for algorithm, name, key in [
    ("ed25519", "ED25519", ed25519.Ed25519PrivateKey.generate()),
    ("ecdsa-p256-sha256", "ECDSA_P256_SHA256", ec.generate_private_key(ec.SECP256R1())),
    ("rsa-pss-sha512", "RSA_PSS_SHA512", rsa.generate_private_key(65537, 2048)),
]:
    file = write(f"{algorithm}.pem", private_pem(key))
    credential(
        algorithm, "http-signature",
        f'key_id = "k1"\nalgorithm = "{algorithm}"\nkey = {file}\nexpires = "1m"\nnonce = true',
        lambda it, name=name, key=public_pem(key): verify.http_signature(it, name, key),
    )
credential(
    "hmac-sha256", "http-signature",
    f'key_id = "k1"\nalgorithm = "hmac-sha256"\nkey = {secret}\n'
    'components = ["@method", "@target-uri", "@authority", "@path", "@query", "content-type", "content-digest"]',
    lambda it: verify.http_signature(it, "HMAC_SHA256", SECRET.encode()),
)
for name, more in [("aws", ""), ("aws-session", f"\nsession_token = {write('session', 'FwoGZXIvYXdzEXAMPLE==')}")]:
    credential(
        name, "aws-sigv4",
        f'region = "eu-central-1"\nservice = "execute-api"\naccess_key_id = "AKIDEXAMPLE"\n'
        f'secret_access_key = {write("aws", AWS_SECRET)}{more}',
        lambda it: verify.aws(it, "AKIDEXAMPLE", AWS_SECRET, "eu-central-1", "execute-api"),
    )

config = ['[[listener]]\ntcp = "127.0.0.1:0"', '[admin]\nunix = "%s/admin.sock"' % work, *credentials.values()]
for protocol, upstream in upstreams.items():
    for name in credentials:
        config.append(
            f'[upstream.{name}-{protocol}]\nurl = "https://localhost:{upstream.port}/"\nca_file = "{work}/ca.pem"\n'
            f'client_cert = "{work}/client.pem"\nclient_key = "{work}/client.key"\ncredential = "{name}"\n'
            f'[[route]]\npath = "/{protocol}/{name}/"\nstrip_prefix = true\nupstream = "{name}-{protocol}"'
        )
config_file = work / "config.toml"
config_file.write_text("\n".join(config))
config_file.chmod(0o600)
log = open(work / "log", "w")
daemon = subprocess.Popen(
    [sys.executable, daemon_py, binary, str(config_file)], stdout=subprocess.PIPE, stderr=log, text=True
)
has_failed = False


def verdict(sentence, work):
    global has_failed
    try:
        work()
        print(f"ok {sentence}", flush=True)
    except Exception as error:
        has_failed = True
        print(f"not ok {sentence}: {error!r}", flush=True)


def asked(method, path, body=None, headers=JSON):
    """A request as clients send it; a body that is an iterator goes in pieces."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == 200, (answer.status, said)


def tried_again(path):
    asked("POST", f"{path}/busy", CALL)
    return 2


def reloaded(path):
    asking = threading.Thread(target=asked, args=("POST", f"{path}/held", CALL))
    before = len(upstream.seen)
    asking.start()
    give_up = time.monotonic() + 20
    while len(upstream.seen) == before:
        assert time.monotonic() < give_up, "nothing arrived"
        time.sleep(0.01)
    subprocess.run([binary, "reload", "--config", config_file], check=True, capture_output=True, timeout=20)
    upstream.let_go()
    asking.join()


ways = {
    "a call is accepted": lambda path: asked("POST", f"{path}/mcp", CALL),
    "so is a path with escapes and a query":
        lambda path: asked("POST", f"{path}/a%20b/c%C3%A9?q=1%202&a=b&empty=", CALL),
    "so is one without a body": lambda path: asked("GET", f"{path}/mcp", headers={}),
    "so is one of 1 MiB": lambda path: asked("POST", f"{path}/mcp", b'"' + b"x" * (2**20 - 2) + b'"'),
    "so is one in pieces":
        lambda path: asked("POST", f"{path}/mcp", iter([b"one ", b"two"]), {"content-type": "text/plain"}),
    "so are both attempts at one that was put off": tried_again,
    "so is one that a reload overtakes": reloaded,
}


def accepted(name, protocol, ask):
    before = len(upstream.seen)
    expected = ask(f"/{protocol}/{name}") or 1
    arrived = upstream.seen[before:]
    assert len(arrived) == expected, f"{len(arrived)} instead of {expected} arrived"
    for it in arrived:
        assert it.version == {"h1": "1.1", "h2": "2"}[protocol], it.version
        checks[name](it)


try:
    port = json.loads(daemon.stdout.readline())["port"]
    for protocol, upstream in upstreams.items():
        for name in credentials:
            for sentence, ask in ways.items():
                verdict(f"{name}, {protocol}: {sentence}", lambda: accepted(name, protocol, ask))
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
if has_failed:
    print("# the proxy's last words:", *said.splitlines()[-20:], sep="\n#   ")
sys.exit(has_failed)
