"""Store what the answer to a test message showed, be it in the answer to the request or an MDN that comes later."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db import transaction

from as2certs import as2
from as2certs.audit.recording import Actor, AuditEvent, record
from identities.stations import AbstractCertificate
from partners import signing_choices
from partners.models import MAX_KEPT_BYTES, PartnerRole, Probe
from partners.probes import requests

OnJudged = Callable[[Probe, datetime], None]

#: What the verdict on a test message, and sending it, read.
LOADED = (
    "partnership__identity",
    "partnership__partner",
    "signing_certificate__private_key__identity",
    "encryption_certificate",
    "created_by",
)


def describe_partner(probe: Probe, *, now: datetime) -> as2.Partner:
    """Return the partner as the verdict needs it, with the certificates that may sign its MDNs."""
    partnership = probe.partnership
    verify = partnership.partner.service.open().filter(role=PartnerRole.VERIFY).select_related("certificate")
    signing = signing_choices.signing_certificate_at(partnership, now)
    encryption = requests.encryption_certificate(partnership)
    return as2.Partner(
        name=partnership.partner.name,
        certificates=[row.certificate.certificate for row in verify],
        signature=f"our {_age(probe.signing_certificate, signing)}signature",
        certificate=f"its {_age(probe.encryption_certificate, encryption)}certificate",
    )


def _age(certificate: AbstractCertificate, in_use: AbstractCertificate | None) -> str:
    """Return "new " for a certificate that is not in use yet, "old " for an earlier one, "" for the one in use."""
    if in_use is None or certificate == in_use:
        return ""
    return "new " if certificate.not_after > in_use.not_after else "old "


def verdict_columns(verdict: as2.Verdict) -> dict[str, Any]:
    """Return the columns of a test message that hold a verdict."""
    facts = {
        "mdn_is_verified": verdict.mdn_is_verified,
        "mdn_signer": certificate_facts(verdict.mdn_signer),
        "mic": verdict.mic if verdict.disposition else "",
        "disposition": verdict.disposition,
        "partner_text": verdict.partner_text,
        "weaknesses": list(verdict.weaknesses),
        "http_status": verdict.http_status,
        "tls_version": verdict.tls_version,
        "tls_certificate": certificate_facts(verdict.tls_certificate),
    }
    return {
        "kind": verdict.kind,
        "sentence": verdict.sentence,
        "next_step": verdict.next_step,
        "facts": {name: value for name, value in facts.items() if value not in (None, "", [])},
    }


def certificate_facts(facts: as2.CertificateFacts | None) -> dict[str, Any] | None:
    """Return the facts as JSON: the serial number in decimal digits, the expiry in ISO 8601."""
    if facts is None:
        return None
    ends = facts.not_after
    found = asdict(facts) | {"not_after": ends.isoformat() if ends else "", "serial": str(facts.serial or "")}
    return {name: value for name, value in found.items() if value}


def compress_message(headers: as2.Headers, body: bytes) -> bytes:
    """Return a message as it is stored; `http.client` reads headers as Latin-1."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return zlib.compress((head.encode("latin-1", "replace") + b"\r\n" + body)[:MAX_KEPT_BYTES])


def store(probe: Probe, columns: dict[str, Any], *, now: datetime, on_judged: OnJudged) -> None:
    """Store a verdict and apply it, in one transaction. Raises JobLost."""
    with transaction.atomic():
        finish(probe, Probe.State.DONE, columns)
        record_event(probe, "probe.judged", {"verdict": probe.kind}, reason=probe.sentence, now=now)
        on_judged(probe, now)


def finish(probe: Probe, state: str, columns: dict[str, Any]) -> None:
    """End the job, and let the message have what was stored. Raises JobLost."""
    probe.finish(state, **columns)
    probe.refresh_from_db(fields=["state", "finished_at", *columns])


def record_event(probe: Probe, verb: str, new: dict[str, Any], *, reason: str, now: datetime) -> None:
    """Record in the trail what became of a message."""
    partnership = probe.partnership
    event = AuditEvent(verb, partnership, partnership.audit_subjects, new=new, reason=reason)
    record(event, by=Actor.runner(), now=now)
