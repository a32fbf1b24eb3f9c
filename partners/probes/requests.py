"""Allow test messages to a partner, find the certificates that they can use, and request one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from as2certs.as2 import As2Error, read_url
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities.models import IdentityCertificate
from identities.stations import AbstractCertificate
from partners import signing_choices
from partners.errors import ProbeRefused
from partners.models import PROBE_INTERVALS, PartnerCertificate, PartnerRole, Partnership, Probe

C = TypeVar("C", bound=AbstractCertificate)

#: So many certificates of a station are offered beside the one in use, the newest ones.
MAX_OFFERED = 10


@dataclass(frozen=True)
class ProbeSpec:
    """The certificates with which a test message is signed and to which it is encrypted, and why it is sent.

    ``asks_async_mdn`` asks for an MDN that comes by itself, and not in the answer.
    """

    signing: IdentityCertificate
    encryption: PartnerCertificate
    purpose: str = Probe.Purpose.REQUESTED
    asks_async_mdn: bool = False


@dataclass(frozen=True)
class CertificateChoices:
    """The certificates that a test message can use; those in use come first, None if there is none."""

    signing_in_use: IdentityCertificate | None
    signing: list[IdentityCertificate]
    encryption_in_use: PartnerCertificate | None
    encryption: list[PartnerCertificate]


def set_allowed(partnership: Partnership, *, allowed: bool, by: Actor, now: datetime) -> None:
    """Allow test messages to a partner in production, or forbid them; do nothing if it is so already.

    Where they are forbidden, regular ones end too.
    """
    with transaction.atomic():
        if Partnership.objects.filter(pk=partnership.pk, allows_probes=not allowed).update(allows_probes=allowed):
            verb = "partnership.probes_allowed" if allowed else "partnership.probes_forbidden"
            record(AuditEvent(verb, partnership, also=partnership.audit_subjects), by=by, now=now)
            if not allowed and partnership.probe_interval_days:
                set_interval(partnership, days=0, by=by, now=now)
    partnership.allows_probes = allowed


def set_interval(partnership: Partnership, *, days: int, by: Actor, now: datetime) -> None:
    """Let a test message be sent every so many days, the first at once; 0 ends that. Raises ProbeRefused."""
    if days and (obstacle := find_obstacle(partnership)):
        raise ProbeRefused(obstacle)
    columns = {
        "probe_interval_days": days,
        "next_probe_at": now if days else None,
        "probes_fail_since": None,
        "probes_fail_notified_at": None,
    }
    with transaction.atomic():
        if Partnership.objects.filter(pk=partnership.pk).exclude(probe_interval_days=days).update(**columns):
            new = {"regular test messages": PROBE_INTERVALS[days]}
            event = AuditEvent("partnership.probes_scheduled", partnership, partnership.audit_subjects, new=new)
            record(event, by=by, now=now)
    partnership.probe_interval_days = days
    if days:
        wake_task("rotations.tasks.send_probes")


def find_obstacle(partnership: Partnership) -> str:
    """Return why no test message can be sent to a partner; empty if one can."""
    partner = partnership.partner
    if partnership.archived_at or partnership.identity.archived_at or partner.archived_at:
        return f"{partnership} is archived: restore the connection first."
    if not partnership.takes_probes:
        return f"Test messages to {partner} are not allowed: agree on them with {partner}, then allow them."
    if not partner.url:
        return f"The AS2 URL of {partner} is not known: enter it on the page of {partner}."
    try:
        read_url(partner.url)
    except As2Error as error:
        return str(error)
    return ""


def find_choices(partnership: Partnership, *, now: datetime) -> CertificateChoices:
    """Return the certificates that a test message can use: valid ones, of ours those with a private key here."""
    signing = signing_choices.signing_certificate_at(partnership, now)
    encryption = encryption_certificate(partnership)
    ours = partnership.identity.certificates.light().exclude(private_key=None).filter(not_after__gte=now)
    theirs = partnership.partner.certificates.light().filter(not_after__gte=now)
    return CertificateChoices(
        signing_in_use=signing,
        signing=_offered(ours, signing),
        encryption_in_use=encryption,
        encryption=_offered(theirs, encryption),
    )


def asked_async_mdn(partnership: Partnership) -> bool:
    """Return whether the newest test message over a connection asked for an asynchronous MDN: some servers need it."""
    return bool(partnership.probes.order_by("-id").values_list("asks_async_mdn", flat=True).first())


def encryption_certificate(partnership: Partnership) -> PartnerCertificate | None:
    """Return the certificate to which messages to the partner are encrypted now."""
    row = partnership.partner.service.open().filter(role=PartnerRole.ENCRYPT).with_certificates().first()
    return row.certificate if row else None


def _offered(usable: QuerySet[C], in_use: C | None) -> list[C]:
    """Return the certificate in use, if it is usable, and the newest others."""
    pk = in_use.pk if in_use else None
    return [*usable.filter(pk=pk), *usable.exclude(pk=pk).order_by("-id")[:MAX_OFFERED]]


def request_probe(partnership: Partnership, spec: ProbeSpec, *, by: Actor, now: datetime) -> Probe:
    """Queue a test message, which a worker sends soon. Raises ProbeRefused."""
    if obstacle := find_obstacle(partnership):
        raise ProbeRefused(obstacle)
    if spec.signing.identity_id != partnership.identity_id or spec.encryption.partner_id != partnership.partner_id:
        raise ProbeRefused(f"These certificates are not those of {partnership}: choose them again.")
    if spec.signing.private_key_id is None:
        raise ProbeRefused(f"The private key of {spec.signing} is not here, so it can't sign a test message.")
    probe = Probe(
        partnership=partnership,
        purpose=spec.purpose,
        signing_certificate=spec.signing,
        encryption_certificate=spec.encryption,
        url=partnership.partner.url,
        asks_async_mdn=spec.asks_async_mdn,
        created_at=now,
        created_by=by.user,
    )
    try:
        with transaction.atomic():
            probe.save()
            new = {"signed with": str(spec.signing), "encrypted to": str(spec.encryption), "address": probe.url}
            record(AuditEvent("probe.requested", partnership, partnership.audit_subjects, new=new), by=by, now=now)
    except IntegrityError as error:
        raise ProbeRefused(
            f"A test message to {partnership.partner} with these certificates is being sent: wait for its answer."
        ) from error
    wake_task("rotations.tasks.send_probes")
    return probe
