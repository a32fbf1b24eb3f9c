"""One rotation with many partners: what its page, the part that refreshes itself and its report cost."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction

from as2certs.audit.recording import Actor, record_many
from as2certs.clock import database_now
from identities.models import Identity
from partners.models import Contact, Partner, Partnership
from rotations.exchange import responses
from rotations.execution import confirmations
from rotations.letters import announcements
from rotations.lifecycle import approval
from rotations.models import Letter, Participant, Rotation, Step
from tests.bench.crowd import _copies
from tests.rotations.company import make_company, make_draft

#: How many partners answer by the application's own functions; the others are copies of them.
KINDS = 10
NORA = Actor(name="Nora", source="portal", address="203.0.113.9")


@transaction.atomic
def fill(partners: int) -> str:
    """Store an approved rotation with so many partners in all states of an exchange; return its public id.

    Of ten, one is not informed yet, two are silent, one declined, three have answered, and three were informed only.
    """
    now = database_now()
    company = make_company(now=now, connector=None)
    _connect(company.identity, partners - len(company.partners))
    Contact.objects.bulk_create(Contact(partner=one, name="Nora", email="nora@example.com") for one in company.partners)
    draft = make_draft(company, starts=now + timedelta(days=9), now=now)
    rotation = approval.approve(draft, by=company.approver, now=now)
    rotation.steps.filter(act="stage").update(state="done", done_at=now)
    rotation.steps.filter(act__in=("announce", "install", "agree")).update(blocked=False)
    participants = list(rotation.participants.select_related("partner"))
    for n, participant in enumerate(participants[:KINDS]):
        _answer(participant, n, rotation)
        _repeat(participant, participants[n + KINDS :: KINDS], rotation)
    return str(rotation.uid)


def _connect(identity: Identity, count: int) -> None:
    made = Partner.objects.bulk_create(
        Partner(name=f"Partner {n:04} of many", as2_id=f"PARTNER-{n:04}", holds="several", time_zone="America/Chicago")
        for n in range(count)
    )
    Partnership.objects.bulk_create(Partnership(identity=identity, partner=one) for one in made)
    Contact.objects.bulk_create(
        Contact(partner=one, name=f"Nora {n}", email=f"nora@p{n}.example", phone="+1 312 555 0100")
        for n, one in enumerate(made)
    )


def _answer(participant: Participant, kind: int, rotation: Rotation) -> None:
    """Let a partner answer in one of ten ways."""
    now = database_now()
    if kind == 0:
        return
    announcements.announce(participant, by=NORA, now=now - timedelta(days=30 if kind in (1, 2) else 1))
    if kind == 3:
        responses.decline(participant, reason="Our software is replaced that week", by=NORA, now=now)
    if kind in (4, 5, 6):
        sha = rotation.new.sha256 if kind == 4 and rotation.new else ""
        answer = confirmations.PartnerAnswer("", by=NORA, now=now, note="Night shift")
        confirmations.confirm_installation(participant, answer, fingerprint=sha, agreed=kind != 6)


def _repeat(pattern: Participant, others: Sequence[Participant], rotation: Rotation) -> None:
    """Give the other participants the answers, steps, letters and entries of the trail of this one."""
    pattern.refresh_from_db()
    names = [field.attname for field in Participant._meta.concrete_fields if field.name not in ("id", "uid", "partner")]
    Participant.objects.filter(pk__in=[one.pk for one in others]).update(
        **{name: getattr(pattern, name) for name in names}
    )
    for step in pattern.steps.all():
        Step.objects.filter(participant__in=others, act=step.act).update(
            state=step.state, done_at=step.done_at, done_by=step.done_by, note=step.note, blocked=step.blocked
        )
    for letter in Letter.objects.filter(participant=pattern).select_related("message", "link"):
        messages = _copies(
            letter.message, len(others), lambda n: {"key": uuid.uuid4().hex, "message_id": f"{uuid.uuid4()}@example"}
        )
        assert letter.link is not None
        links = _copies(
            letter.link,
            len(others),
            lambda n: {
                "participant": others[n],
                "partner": others[n].partner,
                "token_hash": uuid.uuid4().hex,
                "contact": None,
            },
        )
        _copies(
            letter,
            len(others),
            lambda n, messages=messages, links=links: {
                "participant": others[n],
                "partner": others[n].partner,
                "message": messages[n],
                "link": links[n],
                "contact": None,
            },
        )
    if pattern.declined_at or pattern.confirmed_at:
        verb = "participant.declined" if pattern.declined_at else "participant.confirmed"
        record_many([one.audit_event(verb, reason="As we said") for one in others], by=NORA, now=database_now())
