"""An OAuth issuer on Authlib: client credentials with a secret (basic, post) or a signed assertion."""

import secrets
import threading
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from flask import Flask, jsonify
from werkzeug.serving import make_server


class Client(ClientMixin):
    def __init__(self, client_id, method, secret="", key=None):
        self.client_id, self.method, self.client_secret, self.key = client_id, method, secret, key

    def get_client_id(self):
        return self.client_id

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(self.client_secret, client_secret)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == self.method

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"


class Grant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]


class Assertion(JWTBearerClientAssertion):
    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, issuer):
        super().__init__(issuer.url)
        self.issuer = issuer

    def validate_jti(self, claims, jti):
        fresh = jti not in self.issuer.seen
        self.issuer.seen.add(jti)
        return fresh

    def resolve_client_public_key(self, client, headers=None):
        return client.key


class Issuer:
    def __init__(self, clients):
        self.clients = {client.client_id: client for client in clients}
        self.tokens, self.seen = {}, set()
        app = Flask("issuer")
        app.config["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": 600}
        server = AuthorizationServer(app, query_client=self.clients.get, save_token=self.save)
        server.register_grant(Grant)
        app.add_url_rule("/token", "token", server.create_token_response, methods=["POST"])
        app.add_url_rule("/.well-known/openid-configuration", "metadata", self.metadata)
        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.port}"
        server.register_client_auth_method("private_key_jwt", Assertion(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metadata(self):
        return jsonify(issuer=self.url, token_endpoint=f"{self.url}/token")

    def save(self, token, request):
        self.tokens[token["access_token"]] = (request.client.client_id, token.get("scope"), time.time())

    def verify(self, authorization, client_id):
        kind, _, token = authorization.partition(" ")
        assert kind == "Bearer" and token in self.tokens, "no token of this issuer's"
        assert self.tokens[token][0] == client_id, self.tokens[token]
        return "ok"
