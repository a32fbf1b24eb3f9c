"""A small OpenID provider on a free port: it speaks HTTP, signs with RS256, and can misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "as2-certs", "the client's secret"


@dataclass
class FakeProvider:
    """Who logs in there (``person``), what was asked of it, and what it does wrong (``twist``)."""

    redirect_uri: str
    person: dict[str, Any] = field(default_factory=dict)
    #: What is put over the claims of the next ID tokens; None takes a claim out.
    twist: dict[str, Any] = field(default_factory=dict)
    #: Another key or way to sign, in place of the published one.
    sign: tuple[Any, str] | None = None
    userinfo: dict[str, Any] | None = None
    #: The login at the provider happened this many seconds ago.
    logged_in_ago: float = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    issuer: str = ""
    announced: str = ""

    def __post_init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.codes: dict[str, dict[str, str]] = {}

    def jwks(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.announced or self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Take what a browser brings, and return where it goes next."""
        self.asked.append(asked)
        assert asked["client_id"] == CLIENT
        assert asked["redirect_uri"] == self.redirect_uri
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self.codes[code] = asked
        return f"{self.redirect_uri}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, given: dict[str, str]) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(given.get("code", ""), None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        if (given.get("client_id"), given.get("client_secret")) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if given.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        return 200, {
            "access_token": "an access token",
            "token_type": "Bearer",
            "id_token": self.id_token(asked["nonce"]),
        }

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": int(now - self.logged_in_ago),
            "nonce": nonce,
            **self.person,
            **self.twist,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        key, algorithm = self.sign or (self.key, "RS256")
        return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": "one"})


@contextmanager
def run_provider(redirect_uri: str) -> Iterator[FakeProvider]:
    """Run a provider for one client, and end it."""
    provider = FakeProvider(redirect_uri)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == "/.well-known/openid-configuration":
                self.answer(200, provider.configuration())
            elif address.path == "/keys":
                self.answer(200, provider.jwks())
            elif address.path == "/userinfo":
                assert self.headers["Authorization"] == "Bearer an access token"
                self.answer(200, provider.person if provider.userinfo is None else provider.userinfo)
            elif address.path == "/authorize":
                goes = provider.authorize({n: v[0] for n, v in parse_qs(address.query).items()})
                self.send_response(302)
                self.send_header("Location", goes)
                self.end_headers()
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            given = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.answer(*provider.token({n: v[0] for n, v in parse_qs(given).items()}))

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
