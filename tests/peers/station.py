"""A small AS2 station: ``python -m tests.peers.station CONFIG``.

It sends each partner a message with a tag of its own every second, stores the tags that it receives, answers by signed
MDNs, and writes everything to its journal. The configuration is a JSON file:

    {"as2_id": "ACME", "port": 8080, "journal": "/…/journal", "partners": {"NORTHWIND": "http://127.0.0.1:8081/"},
     "seconds": 1, "store": {"kind": "folder", "folder": "/…"}}

It begins to send on SIGUSR1, stops sending on SIGUSR2, and ends on SIGTERM.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes

from as2certs.as2 import (
    As2Error,
    ComposedMessage,
    Disposition,
    Draft,
    Encryption,
    Headers,
    Inbound,
    MdnDraft,
    Network,
    Partner,
    ReceiptRequest,
    Signing,
    build_mdn,
    cms,
    compose,
    judge,
    new_message_id,
    receive,
    send,
)
from as2certs.as2.mdn import split_signed
from as2certs.as2.mime import Entity, read_entity
from tests.peers import journal
from tests.peers.sending import Sender, block_signals, obey_signals
from tests.peers.stores import FolderStore, Incoming, OpenAs2Store, Store, StoreError, UnknownPartner

NETWORK = Network(allowed=(ipaddress.ip_network("127.0.0.0/8"),), connect_seconds=5, read_seconds=10, total_seconds=15)
MAX_BODY_BYTES = 1024 * 1024


class OpenAs2Disposition(Disposition):
    """An error as OpenAS2 writes it: with a capital, and no blank after the colon."""

    def __str__(self) -> str:
        return f"{self.type}/Error:{self.modifier}"


class Station:
    """What a station does with a message that it sends or receives."""

    def __init__(self, as2_id: str, store: Store, notes: journal.Journal) -> None:
        self.as2_id, self.store, self.notes = as2_id, store, notes
        self.is_openas2 = isinstance(store, OpenAs2Store)

    # Sending.

    def send(self, partner: str, url: str, tag: str) -> None:
        """Send a message with a tag, once, and write down what came of it."""
        self.notes.write(journal.SENDING, partner=partner, tag=tag)
        try:
            outgoing = self.store.outgoing(partner)
        except StoreError as error:
            self.notes.write(journal.OUTCOME, partner=partner, tag=tag, verdict="not-sent", sentence=str(error))
            return
        message = self._compose(partner, tag, outgoing.signing, Encryption(outgoing.encrypt_to))
        verdict = judge(
            message,
            send(url, message.headers, message.body, NETWORK),
            Partner(partner, outgoing.mdn_signers),
        )
        self.notes.write(
            journal.OUTCOME,
            partner=partner,
            tag=tag,
            verdict=verdict.kind,
            disposition=verdict.disposition,
            sentence=verdict.sentence,
            signed_with=fingerprint(outgoing.signing.certificate),
            encrypted_to=fingerprint(outgoing.encrypt_to),
        )

    def _compose(self, partner: str, tag: str, signing: Signing, encryption: Encryption) -> ComposedMessage:
        return compose(
            Draft(
                sender=self.as2_id,
                recipient=partner,
                message_id=new_message_id(self.as2_id.lower()),
                date=datetime.now(UTC),
                payload=tag.encode("ascii"),
                signing=signing,
                encryption=encryption,
                receipt=ReceiptRequest(f"edi@{self.as2_id.lower()}.example"),
            )
        )

    # Receiving.

    def answer(self, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        """Take a message, and return status, headers and body of the answer."""
        sender = headers.get("AS2-From").strip('"')
        try:
            incoming = self.store.incoming(sender)
        except UnknownPartner:
            return self._refuse_unknown(headers, body, sender)
        except StoreError as error:
            inbound = receive(headers, body, lambda _: None, ())
            self.notes.write(journal.REFUSED, partner=sender, problem="decryption-failed", explanation=str(error))
            return self._answer(replace(inbound, problem="decryption-failed"), None)
        inbound = receive(headers, body, incoming.find_key, incoming.signers)
        if inbound.problem:
            if self.is_openas2 and inbound.problem == "authentication-failed":
                inbound = replace(inbound, problem="integrity-check-failed")
            self.notes.write(journal.REFUSED, partner=sender, problem=inbound.problem, explanation=inbound.explanation)
        else:
            self._store(inbound, incoming, Entity(headers, body))
        return self._answer(inbound, incoming.mdn_signing)

    def _store(self, inbound: Inbound, incoming: Incoming, entity: Entity) -> None:
        assert inbound.signature is not None
        assert inbound.decrypted_for is not None
        decrypted_for = next(
            pair.certificate for pair in incoming.keys if inbound.decrypted_for.names(pair.certificate)
        )
        self.notes.store(
            read_tag(entity, incoming),
            partner=inbound.sender,
            signed_with=fingerprint(inbound.signature.certificate),
            encrypted_to=fingerprint(decrypted_for),
        )

    def _refuse_unknown(self, headers: Headers, body: bytes, sender: str) -> tuple[int, Headers, bytes]:
        """Answer somebody with whom nothing is set up: OpenAS2 by a bare HTTP 500, others by an MDN."""
        self.notes.write(journal.REFUSED, partner=sender, problem="unknown-trading-partner")
        if self.is_openas2:
            return 500, Headers(), b""
        inbound = receive(headers, body, lambda _: None, ())
        return self._answer(replace(inbound, problem="unknown-trading-partner"), None)

    def _answer(self, inbound: Inbound, signing: Signing | None) -> tuple[int, Headers, bytes]:
        """Return the MDN on a message, signed if there is something to sign with."""
        kind = OpenAs2Disposition if self.is_openas2 else Disposition
        draft = MdnDraft(
            sender=inbound.recipient,
            recipient=inbound.sender,
            original_message_id=inbound.message_id,
            disposition=kind("processed", "error", inbound.problem) if inbound.problem else Disposition("processed"),
            date=datetime.now(UTC),
            mic=None if inbound.problem else inbound.mic,
            text=inbound.explanation or "Received.",
            signing=signing,
        )
        return 200, *build_mdn(draft)


def read_tag(entity: Entity, incoming: Incoming) -> str:
    """Return what a message carries that was understood: `as2certs.as2` discards it, as it is no gateway."""
    while entity.content_type.kind in ("application/pkcs7-mime", "multipart/signed"):
        if entity.content_type.kind == "multipart/signed":
            entity, _ = split_signed(entity)
        else:
            content, _ = cms.read_envelope(entity.cms_body()).decrypt(incoming.find_key)
            entity = read_entity(content)
    return entity.decoded_body().decode("ascii").strip()


def fingerprint(certificate: Any) -> str:
    return str(certificate.fingerprint(hashes.SHA256()).hex())


class _Handler(BaseHTTPRequestHandler):
    """Passes each POST to the station."""

    protocol_version = "HTTP/1.1"

    def __init__(self, station: Station, *arguments: Any) -> None:
        self.station = station
        super().__init__(*arguments)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or -1)
        if not 0 <= length <= MAX_BODY_BYTES:
            return self.send_error(411 if length < 0 else 413)
        try:
            status, headers, body = self.station.answer(Headers(tuple(self.headers.items())), self.rfile.read(length))
        except As2Error as error:
            return self.send_error(400, str(error))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None


def open_store(as2_id: str, config: Mapping[str, Any]) -> Store:
    """Return the store that a configuration describes."""
    if config["kind"] == "openas2":
        return OpenAs2Store(as2_id, config)
    return FolderStore(Path(config["folder"]))


def main(path: str) -> None:
    config = json.loads(Path(path).read_text())
    notes = journal.Journal(Path(config["journal"]))
    station = Station(config["as2_id"], open_store(config["as2_id"], config["store"]), notes)
    block_signals()
    server = ThreadingHTTPServer(("127.0.0.1", config["port"]), partial(_Handler, station))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    senders = [
        Sender(partial(station.send, partner, url), f"{station.as2_id}-{partner}", config["seconds"])
        for partner, url in config["partners"].items()
    ]
    obey_signals(senders, notes)
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
