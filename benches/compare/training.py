"""What the compiler shall make fast: every kind of traffic, on a build that counts what is executed."""

from . import peers
from .processes import started

# The counts go into a file at the end, which the sandbox would not allow.
SERVER = 'sandbox = "off"\n'
# Other ways to sign, and what is done to listings and calls: the origin answers these, too.
ROUTES = """
[upstream.bearer]
url = "http://127.0.0.1:{clear}/"
credential = "bearer"
[credential.bearer.bearer]
token = {{ file = "{secret}" }}
[upstream.aws]
url = "http://127.0.0.1:{clear}/"
credential = "aws"
[credential.aws.aws-sigv4]
region = "eu-central-1"
service = "execute-api"
access_key_id = "AKIDEXAMPLE"
secret_access_key = {{ file = "{secret}" }}
[upstream.message]
url = "http://127.0.0.1:{clear}/"
credential = "message"
[credential.message.http-signature]
key_id = "k1"
algorithm = "hmac-sha256"
key = {{ file = "{secret}" }}
components = ["@method", "@target-uri", "@authority", "content-type", "content-digest"]
[[route]]
path = "/bearer/"
upstream = "bearer"
[[route.policy]]
tools = {{ deny = ["bad"] }}
[[route]]
path = "/aws/"
upstream = "aws"
[[route]]
path = "/message/"
upstream = "message"
[[route]]
path = "/"
upstream = "u0"
"""


def train(session):
    for version, weight in (("1.1", 2), ("2", 1)):
        name = f"training {version}"
        peer = peers.ours(session.places, session.tools.binary, name, version, more=SERVER)
        routes = ROUTES.format(clear=session.origin["clear"], secret=peer.directory / "secret")
        with open(peer.directory / "config.toml", "a") as config:
            config.write(routes)
        session.say(name)
        with started(peer) as one:
            for transport, options in loads(weight):
                session.load(one, getattr(peer, transport), *options)
            for path in ("/bearer/mcp", "/aws/mcp", "/message/mcp", "/bytes/65536"):
                # Of what goes there, the origin can verify nothing.
                session.rig("load", peer.tcp, "--connections", 8, "--requests", 300, "--seconds", 60, "--path", path)
        peer = peers.ours(session.places, session.tools.binary, f"{name} streams", version, more=SERVER)
        session.hold(peer, 500)


def loads(weight):
    """Counted, not timed: what is seen shall depend on nothing."""
    for transport, connections, requests in (("tcp", 32, 1000), ("unix", 32, 500), ("tcp", 256, 50), ("unix", 1, 5000)):
        yield transport, ["--connections", connections, "--requests", requests * weight, "--seconds", 120]
    few = ["--connections", 4, "--seconds", 60, "--requests"]
    yield "tcp", [*few, 500, "--churn"]
    yield "unix", [*few, 500, "--get"]
    yield "tcp", [*few, 500, "--path", "/bytes/65536"]
    yield "tcp", [*few, 4, "--path", "/bytes/16777216"]
    yield "tcp", [*few, 4, "--upload", 4 << 20]
