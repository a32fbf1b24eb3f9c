"""The open tasks about a partner: the list at the top of its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse

from identities.open_tasks import ActionLink, OpenTask, role_tasks, rotation_tasks, sort_by_urgency
from identities.role_status import RoleStatus
from partners.models import Partner, PartnerCertificate

#: How many messages are looked at, the newest first.
MAX_EARLY_SIGHTINGS = 20


def partner_tasks(
    partner: Partner,
    statuses: Sequence[RoleStatus],
    rotations: Sequence[Any],
    *,
    connected: bool,
    now: datetime,
) -> list[OpenTask]:
    """Return the open tasks about a partner, urgent ones first."""

    def staged() -> PartnerCertificate | None:
        # One that they submitted is put into service by the rotation that was set up for it, if at all.
        return partner.certificates.light().staged(now).filter(handed_in=None).first()

    tasks = [*role_tasks(partner, statuses, staged=staged, now=now), *rotation_tasks(rotations, now=now)]
    tasks += [*_submitted_certificate_tasks(partner), *_early_evidence_tasks(partner)]
    tasks += _setup_tasks(partner, connected)
    return sort_by_urgency(tasks)


def _submitted_certificate_tasks(partner: Partner) -> Iterator[OpenTask]:
    for submitted in partner.handed_in.pending().select_related("certificate").order_by("id"):
        is_used = partner.sightings.of_certificate(submitted.certificate).filter(use="signed").exists()
        text = f"A new certificate came from {submitted.submitted_by}, and nobody has compared its fingerprint yet."
        if is_used:
            text = f"{partner} already signs with a certificate that you have not compared: compare it now."
        yield OpenTask(
            "urgent" if is_used else "needs_you",
            text,
            "Compare it",
            submitted.get_absolute_url(),
            "rotations.change_rotation",
        )


def dismissal_link(sighting: UUID) -> ActionLink:
    """Return the link to dismiss what is to be done about a message (public id) with a certificate out of service."""
    return ActionLink("Dismiss …", reverse("sighting-dismiss", args=[sighting]), "rotations.change_rotation")


def _early_evidence_tasks(partner: Partner) -> Iterator[OpenTask]:
    """Yield what to do about messages with certificates that are not in service, each certificate once."""
    seen: dict[tuple[str, str], Any] = {}
    for sighting in partner.sightings.early().undecided()[:MAX_EARLY_SIGHTINGS]:
        seen.setdefault((sighting.use, sighting.serial), sighting)
    for sighting in seen.values():
        evidence = sighting.early_evidence()
        if evidence is not None and evidence.kind != "compare":  # those are submitted certificates
            yield OpenTask(
                "urgent", evidence.sentence, evidence.label, evidence.url, alternative=dismissal_link(sighting.uid)
            )


def _setup_tasks(partner: Partner, connected: bool) -> Iterator[OpenTask]:
    if not connected:
        yield OpenTask(
            "needs_you",
            "It is connected with none of our identities.",
            "Connect it",
            f"{reverse('partnership-create')}?partner={partner.uid}",
            "partners.add_partnership",
        )
    contacts = [contact for contact in partner.contacts.all() if not contact.suggested_by]
    suggested = [contact for contact in partner.contacts.all() if contact.suggested_by]
    if suggested:
        who = suggested[0].name if len(suggested) == 1 else f"{len(suggested)} people"
        yield OpenTask("needs_you", f"Named on their page as a contact: {who}.", "Take on or dismiss", "#named")
    if bounced := [contact for contact in contacts if contact.bounced_at]:
        who = ", ".join(contact.name for contact in bounced[:3])
        yield OpenTask("soon", f"Mail comes back from {who}.", "See the contacts", "#contacts")
    if not any(contact.email and contact.notify_new_certificates for contact in contacts):
        yield OpenTask(
            "soon",
            "Nobody there is told of our new certificates by mail.",
            "Add a contact",
            reverse("contact-create", args=[partner.uid]),
            "partners.add_contact",
        )
