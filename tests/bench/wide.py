"""One rotation with many partners: what its page, the part that refreshes itself and its report cost."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.recording import Actor, record_many
from as2certs.clock import database_now
from as2certs.mail.models import Message
from as2certs.site.report_files import draw_next
from partners.models import Contact
from rotations.exchange import responses
from rotations.execution import confirmations
from rotations.letters import announcements
from rotations.lifecycle import approval
from rotations.models import Letter, Participant, Rotation, Step
from tests.bench import inventory
from tests.bench.crowd import _copies
from tests.bench.figures import Figure, Found, Scale, percentile
from tests.bench.grounds import DATABASES, Grounds, ask
from tests.bench.pages import _somebody
from tests.rotations.company import connect_many, make_company, make_draft

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
    connect_many(company.identity, partners - len(company.partners))
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


# The figures

TIMES = 20
PAGE_LIMIT = (
    "The first page after a change derives the status of each partner from its steps, letters and answers; those after "
    "it read 50 partners only."
)


def page(grounds: Grounds, scale: Scale) -> Found:
    """Ask for the page of one rotation and for its changes, and draw its report, on either database."""
    found, size = Found(), scale(2_000)
    for database in DATABASES:
        with grounds.site(database) as site:
            found.figures += _figures(f"{database}: rotation of {size:,} partners", ask(site, "wide", "measure", size))
    return found


def _figures(name: str, got: dict[str, Any]) -> list[Figure]:
    told = f"p50 {1000 * got['page_p50']:.0f} ms, processor {1000 * got['page_busy']:.0f} ms, {got['queries']} queries"
    live = f"processor {1000 * got['live_busy']:.0f} ms, {got['live_size']} bytes"
    return [
        Figure(f"{name}: page, sorted and filtered, p95", got["page"], 0.4, "s", told=told),
        Figure(f"{name}: page, the first one after a change", got["first"], 0.4, "s", limit=PAGE_LIMIT),
        Figure(f"{name}: page, size", got["size"] / 1000, 300, "KB"),
        Figure(f"{name}: live part, nothing changed, p95", got["live"], 0.05, "s", told=live),
        Figure(f"{name}: asking for its report", got["asking"], 0.4, "s", told=f"drawn in {got['drawing']:.1f} s"),
    ]


def measure(partners: int) -> dict[str, float]:
    """Return what the page and the report of such a rotation take, in seconds, bytes and queries."""
    address = reverse("rotation-detail", args=[fill(partners)])
    Message.objects.update(state=Message.State.SENT, sent_at=database_now())
    inventory.look_again()
    client = Client(SERVER_NAME="localhost")
    client.force_login(_somebody())
    _timed(lambda: client.get(reverse("home")))  # what a process does once
    first, first_page = _timed(lambda: client.get(address))
    pages = ("", "?page=7", "?show=silent", "?show=not_informed&page=2", "?sort=-told&page=3", "?q=partner+001")
    assert first_page.status_code == 200, f"the page answers {first_page.status_code}"
    taken = [_timed(partial(client.get, address + query)) for _ in range(TIMES // 5) for query in pages]
    with CaptureQueriesContext(connection) as queries:
        shown = client.get(address)
    number = len(queries)  # before the next request begins to count anew
    match = re.search(r'hx-get="([^"]+)"', shown.content.decode())
    assert match, "the page does not refresh itself"
    polls = [_timed(lambda: client.get(match[1].replace("&amp;", "&"))) for _ in range(TIMES)]
    assert all(answer.status_code == 204 for _, answer in polls), "something has changed"
    asking, _ = _timed(lambda: client.post(address + "report/draw/"))
    drawing, was_drawn = _timed(lambda: draw_next(now=database_now()))
    assert was_drawn
    seconds = [one for one, _ in taken]
    return {
        "first": first,
        "page": percentile(seconds, 95),
        "page_p50": percentile(seconds, 50),
        "size": max(len(answer.content) for _, answer in taken),
        "queries": number,
        "live": percentile([one for one, _ in polls], 95),
        "page_busy": _busy(lambda: client.get(address + "?page=3")),
        "live_busy": _busy(lambda: client.get(match[1].replace("&amp;", "&"))),
        "live_size": max(len(answer.content) for _, answer in polls),
        "asking": asking,
        "drawing": drawing,
    }


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many seconds a call takes, and what it returns."""
    began = time.perf_counter()
    answer = do()
    return time.perf_counter() - began, answer


def _busy(do: Callable[[], Any]) -> float:
    """Return how many seconds of a processor a call takes, which other work on the machine does not change."""
    began = time.process_time()
    for _ in range(TIMES):
        do()
    return (time.process_time() - began) / TIMES
