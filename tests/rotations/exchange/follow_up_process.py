"""Concurrent runs that follow up on partners, inside an installation on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from as2certs.audit.models import Entry
from as2certs.clock import database_now
from as2certs.mail.models import Message
from identities.capabilities import Support
from partners.models import Contact, Partner, Partnership
from rotations.exchange import digest, follow_up
from rotations.execution.confirmations import PartnerAnswer, confirm_installation
from rotations.letters.announcements import announce
from rotations.lifecycle import approval
from rotations.models import Letter, Link, Participant, Rotation
from tests.capabilities import keeps_both
from tests.rotations.company import Company, make_company, make_draft
from tests.rotations.execution.racing import run_concurrently

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PARTNERS = 6


def run() -> dict[str, Any]:
    """Run four follow-ups at once for each reminder of one rotation, while one partner answers in between."""
    company = make_company(now=database_now(), connector=None)
    rotation = _announced_rotation(company)
    start = rotation.window_start
    assert start is not None
    answering = rotation.participants.order_by("pk")[0]
    errors: list[str] = []
    for at in (start - 7 * DAY, start - 3 * DAY, start - DAY, start - 12 * HOUR):
        acts: list[Callable[[], object]] = []
        acts += [partial(follow_up.run_follow_up, at) for _ in range(4)]
        acts += [partial(digest.send_digests, at) for _ in range(2)]
        if at == start - 3 * DAY:
            acts.append(partial(_answer, answering, company))
        errors += [repr(e) for e in run_concurrently(acts, [0.0] * len(acts)) if e is not None]
    nudges = Letter.objects.filter(kind=Letter.Kind.NUDGE)
    doubles = Counter(nudges.values_list("contact", "rung"))
    return {
        "errors": errors,
        "doubles": [list(key) for key, count in doubles.items() if count > 1],
        "rungs": sorted(Counter(nudges.exclude(participant=answering).values_list("rung", flat=True)).items()),
        "answered": list(nudges.filter(participant=answering).order_by("id").values_list("rung", flat=True)),
        "links without letters": Link.objects.filter(letters=None).count(),
        "trail": Entry.objects.filter(verb="participant.escalated").count(),
        "told": Message.objects.filter(kind="silent").count(),
        "digests": Message.objects.filter(kind="digest").count(),
    }


def _announced_rotation(company: Company) -> Rotation:
    for n in range(PARTNERS - len(company.partners)):
        partner = Partner.objects.create(name=f"P{n}", as2_id=f"P{n}", **keeps_both(Support.YES))
        Partnership.objects.create(identity=company.identity, partner=partner)
    for partner in Partner.objects.all():
        Contact.objects.create(partner=partner, name="Pat", email=f"pat@{partner.as2_id.lower()}.example")
    now = database_now()
    rotation = approval.approve(make_draft(company, starts=now + 12 * DAY, now=now), by=company.approver, now=now)
    rotation.steps.filter(act="stage").update(state="done", done_at=now)
    rotation.steps.filter(act="announce").update(blocked=False)
    for participant in rotation.participants.select_related("partner"):
        announce(participant, by=company.by, now=now)
    return rotation


def _answer(participant: Participant, company: Company) -> object:
    return confirm_installation(
        participant,
        PartnerAnswer("Pat", by=company.by, now=database_now()),
        fingerprint=company.new.sha256,
        agreed=True,
    )
