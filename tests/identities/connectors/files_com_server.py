"""A local server that speaks the part of the API of Files.com that the connector uses, with state and faults.

It keeps the rules of the real one that matter here: a record has one certificate, a station's key has to belong to it,
and is never returned.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from identities.connectors.base import InstallableCertificate
from tests.certificates import sha256
from tests.identities.connectors.api_server import Fault, respond, serve

API_KEY = "0123456789abcdefTestKey"
STATIONS, PARTNERS = "as2_stations", "as2_partners"


class Refused(Exception):
    """The status, the type and the message that a call is answered with."""


@dataclass
class FilesCom:
    """The site: records by collection and ID, what was called, and faults of the next call by method and collection."""

    port: int = 0
    api_key: str = API_KEY
    records: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: {STATIONS: {}, PARTNERS: {}})
    keys: dict[int, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    in_place_of: dict[str, list[Fault]] = field(default_factory=dict)
    after: dict[str, list[Fault]] = field(default_factory=dict)
    page_size: int = 2
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> int:
        return sum(call.startswith("PATCH") for call in self.calls)

    def add(self, collection: str, as2_id: str, certificate: InstallableCertificate | None, **more: Any) -> int:
        record_id = 100 + sum(map(len, self.records.values()))
        pem = certificate.certificate_pem.decode() if certificate else None
        self.records[collection][record_id] = {"id": record_id, "name": as2_id, "public_certificate": pem, **more}
        return record_id

    def put(self, collection: str, record_id: int, certificate: InstallableCertificate) -> None:
        """Replace a certificate as somebody else does."""
        self.records[collection][record_id]["public_certificate"] = certificate.certificate_pem.decode()

    def used(self, collection: str, record_id: int) -> str:
        """Return the SHA-256 of the certificate of a record, whose key is checked where there is one."""
        pem = self.records[collection][record_id]["public_certificate"]
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if record_id in self.keys:
            key = load_pem_private_key(self.keys[record_id].encode(), None, unsafe_skip_rsa_key_validation=True)
            assert key.public_key() == certificate.public_key(), "a key that does not belong"
        return sha256(certificate)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[Any, dict[str, str]]:
        collection, _, record_id = path.removeprefix("/api/rest/v1/").partition("/")
        records = self.records[collection]
        if not record_id:
            start = int(query.get("cursor", ["0"])[0])
            page = list(records.values())[start : start + self.page_size]
            more = start + self.page_size < len(records)
            return page, {"X_Files_Cursor_Next": str(start + self.page_size)} if more else {}
        if int(record_id) not in records:
            raise Refused(404, "not-found", "The requested record was not found")
        found = records[int(record_id)]
        if method == "PATCH":
            self._update(found, json.loads(body))
        return found, {}

    def _update(self, found: dict[str, Any], asked: dict[str, Any]) -> None:
        certificate = x509.load_pem_x509_certificate(asked["public_certificate"].encode())
        if "private_key" in asked:
            key = load_pem_private_key(asked["private_key"].encode(), None, unsafe_skip_rsa_key_validation=True)
            if key.public_key() != certificate.public_key():
                raise Refused(422, "processing-failure", "The key does not match")
            self.keys[found["id"]] = asked["private_key"]
        found["public_certificate"] = asked["public_certificate"]


@contextmanager
def serve_files_com() -> Iterator[FilesCom]:
    """Run the server until the block ends."""
    site = FilesCom()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.call("GET")

        def do_PATCH(self) -> None:
            self.call("PATCH")

        def call(self, method: str) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = f"{method} {parts.path.split('/')[4]}"
            with site.lock:
                site.calls.append(name)
            if site.in_place_of.get(name):
                site.in_place_of[name].pop(0)(self)
                return
            status, content = 200, None
            headers: dict[str, str] = {}
            try:
                if self.headers["X-FilesAPI-Key"] != site.api_key:
                    raise Refused(401, "not-authenticated/authentication-required", "Invalid API key")
                content, headers = site.answer(method, parts.path, parse_qs(parts.query), body)
            except Refused as error:
                status, kind, message = error.args
                content = {"type": kind, "http-code": status, "title": kind, "error": message}
            if site.after.get(name):
                site.after[name].pop(0)(self)
                return
            respond(self, status, json.dumps(content).encode(), **headers)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep standard error quiet."""

    with serve(Handler) as port:
        site.port = port
        yield site
