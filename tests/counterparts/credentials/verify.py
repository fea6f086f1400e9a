"""Verifies requests as their receivers would, with libraries that know nothing of the proxy."""

import base64
import hashlib
from types import SimpleNamespace

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures import algorithms


def http_signature(seen, algorithm, key):
    resolver = MappingKeyResolver(public_keys={"k1": key}, private_keys={})
    verifier = HTTPMessageVerifier(
        signature_algorithm=getattr(algorithms, algorithm), key_resolver=resolver
    )
    message = SimpleNamespace(method=seen.method, url=seen.url, headers=seen.headers, body=seen.body)
    results = verifier.verify(message)
    covered = set(results[0].covered_components)
    for wanted in ['"@method"', '"@target-uri"', '"content-digest"']:
        assert wanted in covered, covered
    digest = hashlib.sha256(seen.body).digest()
    assert seen.headers["content-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"


def aws(seen, access_key, secret, region, service):
    """botocore signs the same request again, with the headers and the time that it says it was signed with."""
    given = seen.headers["authorization"]
    fields = dict(part.split("=", 1) for part in given.split(" ", 1)[1].split(", "))
    headers = {name: seen.headers[name] for name in fields["SignedHeaders"].split(";")}
    assert headers["x-amz-content-sha256"] == hashlib.sha256(seen.body).hexdigest()
    request = AWSRequest(method=seen.method, url=seen.url, headers=headers, data=seen.body)
    request.context["timestamp"] = seen.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(access_key, secret, seen.headers.get("x-amz-security-token")), service, region)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert fields["Signature"] == signature, f"not what botocore signs: {canonical!r}"
