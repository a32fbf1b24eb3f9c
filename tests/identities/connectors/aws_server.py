"""A local server that speaks the part of AWS Transfer Family that the connector uses (JSON 1.1), with state and faults.

It keeps the rules of the real one that matter here: a profile takes 10 certificates, a description has no spaces, and
each import makes a new certificate, also of the same material.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from identities.connectors.base import InstallableCertificate

Fault = Callable[[BaseHTTPRequestHandler], None]


class Refused(Exception):
    """The error that a call is answered with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass
class Aws:
    """The account: certificates and profiles by their ID, what was called, and faults of the next call of a name."""

    port: int = 0
    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    in_place_of: dict[str, list[Fault]] = field(default_factory=dict)
    after: dict[str, list[Fault]] = field(default_factory=dict)
    page_size: int = 2

    @property
    def writes(self) -> list[str]:
        """Return the names of the calls that change something, in their order."""
        return [name for name, _ in self.calls if not name.startswith(("List", "Describe"))]

    def add(self, certificate: InstallableCertificate, usage: str, *, key: bool, status: str = "") -> str:
        """Import a certificate as a person does, and return its ID."""
        return self._import(
            {"Usage": usage, "Certificate": certificate.certificate_pem.decode(), "PrivateKey": "key" if key else None},
            status,
        )

    def add_profile(self, side: str, as2_id: str, *ids: str) -> str:
        profile_id = f"p-{len(self.profiles) + 1:017x}"
        kind = {"own": "LOCAL", "partner": "PARTNER"}[side]
        self.profiles[profile_id] = {
            "ProfileId": profile_id,
            "ProfileType": kind,
            "As2Id": as2_id,
            "CertificateIds": list(ids),
        }
        return profile_id

    def used(self, profile_id: str, usage: str) -> list[str]:
        """Return the SHA-256 of the certificates that a profile lists for a usage."""
        listed = [self.certificates[one] for one in self.profiles[profile_id]["CertificateIds"]]
        return [one["sha256"] for one in listed if one["Usage"] == usage]

    def answer(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((name, asked))
        match name:
            case "ImportCertificate":
                return {"CertificateId": self._import(asked)}
            case "UpdateCertificate":
                found = self._get(self.certificates, asked["CertificateId"])
                found |= {key: one for key, one in asked.items() if key.endswith("Date")} | {"Status": "ACTIVE"}
                return {"CertificateId": found["CertificateId"]}
            case "DescribeCertificate":
                found = self._get(self.certificates, asked["CertificateId"])
                return {"Certificate": {key: one for key, one in found.items() if key != "sha256"}}
            case "ListCertificates":
                hidden = ("sha256", "Certificate", "NotBeforeDate", "Serial")
                plain = [{k: v for k, v in one.items() if k not in hidden} for one in self.certificates.values()]
                return self._page("Certificates", plain, asked)
            case "ListProfiles":
                kind = asked.get("ProfileType")
                return self._page(
                    "Profiles", [one for one in self.profiles.values() if kind in (None, one["ProfileType"])], asked
                )
            case "DescribeProfile":
                return {"Profile": self._get(self.profiles, asked["ProfileId"]) | {"Arn": "arn:aws:transfer:profile"}}
            case "UpdateProfile":
                found = self._get(self.profiles, asked["ProfileId"])
                if len(asked["CertificateIds"]) > 10:
                    raise Refused("InvalidRequestException", "too many certificates")
                for one in asked["CertificateIds"]:
                    self._get(self.certificates, one)
                found["CertificateIds"] = asked["CertificateIds"]
                return {"ProfileId": found["ProfileId"]}
        raise Refused("UnknownOperationException", name)

    def _page(self, key: str, items: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
        start = int(asked.get("NextToken") or 0)
        more = {"NextToken": str(start + self.page_size)} if start + self.page_size < len(items) else {}
        return {key: items[start : start + self.page_size], **more}

    def _get(self, items: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        if name not in items:
            raise Refused("ResourceNotFoundException", f"{name} is not there")
        return items[name]

    def _import(self, asked: dict[str, Any], status: str = "") -> str:
        if not re.fullmatch("[!-~]{1,200}", asked.get("Description", "none")):
            raise Refused("InvalidRequestException", "the description has spaces")
        certificate = x509.load_pem_x509_certificate(asked["Certificate"].encode())
        certificate_id = f"cert-{len(self.certificates) + 1:017x}"
        self.certificates[certificate_id] = {
            "CertificateId": certificate_id,
            "Arn": "arn:aws:transfer:certificate/" + certificate_id,
            "Usage": asked["Usage"],
            "Type": "CERTIFICATE_WITH_PRIVATE_KEY" if asked.get("PrivateKey") else "CERTIFICATE",
            "Status": status or "ACTIVE",
            "Certificate": asked["Certificate"],
            "Description": asked.get("Description", "by-hand"),
            "Serial": f"{certificate.serial_number:x}",
            "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        }
        return certificate_id


@contextmanager
def serve_aws() -> Iterator[Aws]:
    """Run the server until the block ends."""
    aws = Aws()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.headers["X-Amz-Target"].partition(".")[2]
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if aws.in_place_of.get(name):
                aws.calls.append((name, asked))
                aws.in_place_of[name].pop(0)(self)
                return
            try:
                status, content = 200, aws.answer(name, asked)
            except Refused as error:
                status, content = error.status, {"__type": error.code, "Message": str(error)}
            if aws.after.get(name):
                aws.after[name].pop(0)(self)
                return
            respond(self, status, json.dumps(content).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Keep standard error quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    aws.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield aws
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()


def respond(request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/x-amz-json-1.1")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def refusing(code: str, status: int = 400) -> Fault:
    """Return a fault that answers with an error of AWS."""
    return lambda request: respond(request, status, json.dumps({"__type": code, "Message": "because"}).encode())


def answering(status: int, body: bytes) -> Fault:
    return lambda request: respond(request, status, body)


def cut(request: BaseHTTPRequestHandler) -> None:
    """Reset the connection without an answer."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.shutdown(socket.SHUT_RDWR)
