"""A local server that speaks the parts of Azure that the connector uses, with state and faults.

It stands in for the integration account, the key vault, and the endpoint that gives a machine its tokens, and keeps the
rules of the real ones that matter here: an agreement names certificates of the account, and one that signs or decrypts
refers to a key in the vault.
"""

from __future__ import annotations

import base64
import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from identities.connectors.base import InstallableCertificate
from tests.certificates import sha256
from tests.identities.connectors.api_server import Fault, respond, serve

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/b2b/providers"
ACCOUNT = f"{SUBSCRIPTION}/Microsoft.Logic/integrationAccounts/acme"
VAULT = f"{SUBSCRIPTION}/Microsoft.KeyVault/vaults/acme-as2"
IDENTITY_HEADER = "secret-of-the-identity-endpoint"
PLACES = {
    "decrypt": ("receiveAgreement", "encryptionCertificateName"),
    "sign": ("sendAgreement", "signingCertificateName"),
    "verify": ("receiveAgreement", "signingCertificateName"),
    "encrypt": ("sendAgreement", "encryptionCertificateName"),
}


class Refused(Exception):
    """The status, the code and the message that a call is answered with."""


@dataclass
class Azure:
    """Agreements, certificates and keys by their name, what was called, and faults of the next call of a kind."""

    port: int = 0
    agreements: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    vault: dict[str, x509.Certificate] = field(default_factory=dict)
    imports: int = 0
    has_etags: bool = True
    token_seconds: int = 3600
    refuses_tokens: bool = False
    calls: list[str] = field(default_factory=list)
    in_place_of: dict[str, list[Fault]] = field(default_factory=dict)
    after: dict[str, list[Fault]] = field(default_factory=dict)
    next_link: str = ""
    page_size: int = 2
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET")]

    def add_certificate(self, name: str, certificate: InstallableCertificate, *, key: bool = False) -> None:
        """Add a certificate as a person does."""
        der = x509.load_pem_x509_certificate(certificate.certificate_pem).public_bytes(Encoding.DER)
        reference = {"keyVault": {"id": VAULT}, "keyName": "by-hand", "keyVersion": "0" * 32} if key else None
        self.certificates[name] = {"publicCertificate": base64.b64encode(der).decode(), "key": reference}

    def add_agreement(self, name: str, host: str, guest: str, **names: str) -> None:
        halves: dict[str, Any] = {
            half: {"protocolSettings": {"securitySettings": {}}} for half in ("receiveAgreement", "sendAgreement")
        }
        for role, certificate in names.items():
            half, setting = PLACES[role]
            halves[half]["protocolSettings"]["securitySettings"][setting] = certificate
        self.agreements[name] = {
            "id": f"{ACCOUNT}/agreements/{name}",
            "name": name,
            "type": "Microsoft.Logic/integrationAccounts/agreements",
            "location": "westeurope",
            "properties": {
                "createdTime": "2026-01-01T00:00:00Z",
                "agreementType": "AS2",
                "hostIdentity": {"qualifier": "AS2Identity", "value": host},
                "guestIdentity": {"qualifier": "AS2Identity", "value": guest},
                "content": {"aS2": halves},
                "addedIn2027": {"keep": ["this", 1, None]},
            },
        }
        self.versions[name] = 1

    def rename(self, agreement: str, role: str, name: str) -> None:
        """Let an agreement name another certificate as somebody else does."""
        half, setting = PLACES[role]
        settings = self.agreements[agreement]["properties"]["content"]["aS2"][half]["protocolSettings"]
        settings["securitySettings"][setting] = name
        self.versions[agreement] += 1

    def used(self, agreement: str, role: str) -> str:
        """Return the SHA-256 of the certificate that an agreement uses."""
        half, setting = PLACES[role]
        settings = self.agreements[agreement]["properties"]["content"]["aS2"][half]["protocolSettings"]
        der = base64.b64decode(self.certificates[settings["securitySettings"][setting]]["publicCertificate"])
        return sha256(x509.load_der_x509_certificate(der))

    def answer(self, method: str, path: str, query: dict[str, list[str]], asked: Any, match: str) -> Any:
        if path.startswith("/vault/"):
            return self._vault(method, path.removeprefix("/vault/certificates/"), asked)
        kind, _, name = path.removeprefix(f"{ACCOUNT}/").partition("/")
        if query["api-version"] != ["2019-05-01"]:
            raise Refused(400, "InvalidApiVersion", "the api-version is missing")
        if not name:
            return self._page(kind, query)
        if kind == "certificates":
            return self._certificate(method, name, asked)
        if name not in self.agreements:
            raise Refused(404, "AgreementNotFound", f"{name} is not there")
        if method == "PUT":
            if match and match != self._etag(name):
                raise Refused(412, "PreconditionFailed", "the ETag does not match")
            self._replace(name, asked)
        return self.agreements[name]

    def _etag(self, name: str) -> str:
        return f'"{self.versions[name]}"'

    def etag(self, path: str) -> dict[str, str]:
        name = unquote(path.rpartition("/")[2])
        return {"ETag": self._etag(name)} if self.has_etags and "/agreements/" in path and name in self.versions else {}

    def _page(self, kind: str, query: dict[str, list[str]]) -> Any:
        listed = (
            list(self.agreements.values())
            if kind == "agreements"
            else [{"name": name, "properties": one} for name, one in self.certificates.items()]
        )
        start = int(query.get("$skip", ["0"])[0])
        page: dict[str, Any] = {"value": listed[start : start + self.page_size]}
        if start + self.page_size < len(listed):
            # Azure does not keep the spelling of the address.
            path = f"{ACCOUNT}/{kind}".replace("resourceGroups", "resourcegroups")
            url = f"{self.url}{path}?api-version=2019-05-01&$skip={start + self.page_size}"
            page["nextLink"] = self.next_link or url
        return page

    def _certificate(self, method: str, name: str, asked: Any) -> Any:
        if method == "PUT":
            certificate = x509.load_der_x509_certificate(base64.b64decode(asked["properties"]["publicCertificate"]))
            key = asked["properties"].get("key")
            if key and (key["keyVault"]["id"], self.vault.get(key["keyName"])) != (VAULT, certificate):
                raise Refused(400, "InvalidKeyVaultReference", "the key does not belong to the certificate")
            self.certificates[name] = {"key": None, **asked["properties"]}
        return {"name": name, "properties": self.certificates[name]}

    def _replace(self, name: str, asked: Any) -> None:
        content = asked["properties"]["content"]["aS2"]
        for role, (half, setting) in PLACES.items():
            used = content[half]["protocolSettings"]["securitySettings"].get(setting)
            if used and used not in self.certificates:
                raise Refused(400, "CertificateNotFound", f"{used} is not there")
            if used and role in ("sign", "decrypt") and not self.certificates[used]["key"]:
                raise Refused(400, "CertificateWithoutKey", f"{used} has no private key")
        kept = {key: self.agreements[name][key] for key in ("id", "name", "type")}
        self.agreements[name] = copy.deepcopy(asked) | kept
        self.versions[name] += 1

    def _vault(self, method: str, path: str, asked: Any) -> Any:
        name = path.removesuffix("/import")
        if method == "POST":
            loaded = pkcs12.load_pkcs12(base64.b64decode(asked["value"]), (asked.get("pwd") or "").encode() or None)
            assert loaded.key
            assert loaded.cert
            assert loaded.key.public_key() == loaded.cert.certificate.public_key()
            self.vault[name] = loaded.cert.certificate
            self.imports += 1
        if name not in self.vault:
            raise Refused(404, "CertificateNotFound", f"{name} is not there")
        cer = base64.b64encode(self.vault[name].public_bytes(Encoding.DER)).decode()
        return {"id": f"https://acme/certificates/{name}", "kid": f"https://acme/keys/{name}/{'a' * 32}", "cer": cer}

    def token(self, resource: str) -> dict[str, Any]:
        kind = "vault" if "vault" in resource else "management"
        return {
            "access_token": f"token-for-{kind}",
            "expires_on": str(int(time.time()) + self.token_seconds),
            "resource": resource,
            "token_type": "Bearer",
        }


@contextmanager
def serve_azure() -> Iterator[Azure]:
    """Run the server until the block ends."""
    azure = Azure()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.call("GET")

        def do_PUT(self) -> None:
            self.call("PUT")

        def do_POST(self) -> None:
            self.call("POST")

        def call(self, method: str) -> None:
            parts = urlsplit(self.path)
            path, query = unquote(parts.path).replace("/resourcegroups/", "/resourceGroups/"), parse_qs(parts.query)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path == "/token":
                self.give_token(query)
                return
            kind = "vault" if path.startswith("/vault/") else path.removeprefix(f"{ACCOUNT}/").partition("/")[0]
            name = f"{method} {kind}"
            with azure.lock:
                azure.calls.append(name)
            if azure.in_place_of.get(name):
                azure.in_place_of[name].pop(0)(self)
                return
            status, content = 200, None
            try:
                wanted = f"Bearer token-for-{'vault' if kind == 'vault' else 'management'}"
                if azure.refuses_tokens or self.headers["Authorization"] != wanted:
                    raise Refused(401, "ExpiredAuthenticationToken", "The access token has expired.")
                asked = json.loads(body) if body else None
                content = azure.answer(method, path, query, asked, self.headers.get("If-Match") or "")
            except Refused as error:
                status, code, message = error.args
                content = {"error": {"code": code, "message": message}}
            if azure.after.get(name):
                azure.after[name].pop(0)(self)
                return
            respond(self, status, json.dumps(content).encode(), **azure.etag(path))

        def give_token(self, query: dict[str, list[str]]) -> None:
            if azure.in_place_of.get("token"):
                azure.in_place_of["token"].pop(0)(self)
            elif self.headers["X-IDENTITY-HEADER"] != IDENTITY_HEADER:
                respond(self, 401, b"{}")
            else:
                respond(self, 200, json.dumps(azure.token(query["resource"][0])).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Keep standard error quiet."""

    with serve(Handler) as port:
        azure.port = port
        yield azure
