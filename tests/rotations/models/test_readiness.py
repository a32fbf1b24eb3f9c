"""Who is ready: the same answer for one participant and as a query, in every combination of answers and steps."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from identities.capabilities import Support
from partners.models import Partner
from rotations.exchange import responses
from rotations.execution import confirmations
from rotations.execution.confirmations import PartnerAnswer
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation, Step
from rotations.models.readiness import (
    DECISIONS,
    OUTSTANDING,
    READY,
    Readiness,
    ReadinessCount,
    count_readiness,
    find_readiness,
    with_readiness,
)
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

#: Every combination of what a partner has answered and of what is known about it.
COLUMNS: list[dict[str, Any]] = [
    dict(zip(("evidence", "waived_reason", "works", *("declined_at", "proposed_at", "agreed_at")), values, strict=True))
    | dict(zip(("migrated_at", "straggling_at", "taken_back_at"), moments, strict=True))
    for values in product(("", "weak", "strong"), ("", "It only receives"), (None, False), *[(None, NOW)] * 3)
    for moments in product((None, NOW), repeat=3)
]
#: Steps of one participant: act, owner, state, blocked.
OURS = [("check", "we"), ("announce", "we"), ("cut_over", "we")]
THEIRS = [("install", "partner"), ("agree", "partner"), ("partner_cut_over", "partner")]
STATES = ("waiting", "running", "failed", "done", "skipped")


def store_combinations(rotation: Rotation, partners: list[Partner], chance: random.Random) -> None:
    """Store a participant for each combination of answers, each with steps chosen by chance."""
    participants = Participant.objects.bulk_create(
        Participant(rotation=rotation, partner=partner, **columns)
        for partner, columns in zip(partners, COLUMNS, strict=True)
    )
    Step.objects.bulk_create(
        Step(
            rotation=rotation,
            participant=participant,
            position=number,
            key=f"{act}:{participant.pk}",
            act=act,
            who=who,
            state=chance.choice(STATES) if is_open else "done",
            blocked=chance.random() < 0.4,
        )
        for participant in participants
        for is_open in [chance.random() < 0.6]
        for number, (act, who) in enumerate([*OURS, *THEIRS])
        if chance.random() < 0.5
    )


@pytest.mark.on_postgres
@pytest.mark.parametrize(
    ("state", "emergency"),
    [
        ("draft", ""),
        ("exchanging", ""),
        ("exchanging", "The key has leaked"),
        ("scheduled", ""),
        ("under_way", ""),
        ("applied", ""),
    ],
)
def test_the_query_and_the_function_agree_in_every_combination(state: str, emergency: str) -> None:
    company = make_company(connector=None)
    partners = Partner.objects.bulk_create(
        Partner(name=f"P{number}", as2_id=f"P{number}") for number in range(len(COLUMNS))
    )
    chance = random.Random(f"{state} {emergency}")
    for holder in ({"identity": company.identity}, {"partner": company.partners[0]}):
        rotation = Rotation.objects.create(
            **holder, roles=["sign"], state=state, emergency_reason=emergency, set_up_at=NOW
        )
        store_combinations(rotation, partners, chance)
    rows = with_readiness(Participant.objects.select_related("rotation").prefetch_related("steps"))
    expected = {row.pk: find_readiness(row, row.steps.all()) for row in rows}
    assert {row.pk: row.readiness for row in rows} == expected
    assert len(set(expected.values())) >= (5 if state == "draft" else 6)
    for rotation in Rotation.objects.all():
        found = ReadinessCount.of(expected[row.pk] for row in rows if row.rotation_id == rotation.pk)
        assert count_readiness([rotation.pk])[rotation.pk].counts == found.counts
        waited_for = {row.pk for row in rows if row.rotation_id == rotation.pk and row.is_waited_for}
        acts = [act.value for act in rotation.preparation_acts]
        open_ = rotation.steps.filter(act__in=acts, state__in=("waiting", "running", "failed"))
        owing = set(open_.values_list("participant", flat=True))
        objecting = {row.pk for row in rows if row.rotation_id == rotation.pk and row.has_objection}
        undecided = {pk for pk in objecting if expected[pk] in DECISIONS} if not emergency else set()
        assert owing | undecided <= waited_for <= owing | objecting


# Whom the runner accepts


@pytest.fixture
def company() -> Company:
    return make_company()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """Return an approved rotation whose partners can be informed."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    return rotation


def readiness(rotation: Rotation) -> dict[str, Readiness]:
    rows = with_readiness(rotation.participants.filter(removed_reason="")).select_related("rotation", "partner")
    found = {row.partner.name: find_readiness(row, row.steps.all()) for row in rows}
    assert {row.partner.name: row.readiness for row in rows} == found
    return found


def answer(rotation: Rotation, company: Company, name: str, fingerprint: str = "") -> None:
    participant = rotation.participants.get(partner__name=name)
    confirmations.confirm_installation(
        participant, PartnerAnswer("Dave", by=company.by, now=NOW), fingerprint=fingerprint, agreed=True
    )


def test_a_word_is_ready_but_unverified_and_a_matching_fingerprint_is_verified(
    rotation: Rotation, company: Company
) -> None:
    answer(rotation, company, "Fabrikam")
    assert readiness(rotation)["Fabrikam"] is Readiness.UNVERIFIED
    answer(rotation, company, "Fabrikam", pki.format_fingerprint(company.new.sha256))
    assert readiness(rotation)["Fabrikam"] is Readiness.VERIFIED


def test_a_partner_that_was_not_told_waits_for_us_and_one_that_was_told_owes_an_answer(rotation: Rotation) -> None:
    assert set(readiness(rotation).values()) == {Readiness.WAITS_FOR_US}
    rotation.steps.filter(act="announce").update(state="done")
    rotation.steps.filter(act="install", participant__partner__name="Northwind").update(blocked=False)
    assert readiness(rotation) == {"Fabrikam": Readiness.WAITS_FOR_US, "Northwind": Readiness.NO_ANSWER}


def test_once_everybody_is_ready_the_runner_goes_on(rotation: Rotation, company: Company) -> None:
    answer(rotation, company, "Fabrikam")
    rotation.refresh_from_db()
    assert (rotation.state, count_readiness([rotation.pk])[rotation.pk].outstanding) == ("exchanging", 1)
    northwind = rotation.participants.get(partner__name="Northwind")
    confirmations.waive(northwind, reason="It only receives", by=company.by, now=NOW)
    rotation.refresh_from_db()
    assert (rotation.state, str(count_readiness([rotation.pk])[rotation.pk])) == (
        "scheduled",
        "1 of 1 ready (1 unverified), 1 waived",
    )


def test_a_partner_that_declines_after_its_answer_is_outstanding_and_waited_for(
    rotation: Rotation, company: Company
) -> None:
    answer(rotation, company, "Fabrikam")
    fabrikam = rotation.participants.get(partner__name="Fabrikam")
    responses.decline(fabrikam, reason="Closed", by=company.by, now=NOW)
    row = with_readiness(rotation.participants.all()).get(pk=fabrikam.pk)
    assert (row.readiness, row.is_waited_for) == (Readiness.DECLINED, True)


def test_a_partner_with_one_slot_is_verified_by_its_agreement(company: Company) -> None:
    Partner.objects.update(**keeps_both(Support.NO))
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    assert not rotation.steps.filter(act="install").exists()
    answer(rotation, company, "Fabrikam")
    assert readiness(rotation)["Fabrikam"] is Readiness.VERIFIED


def test_every_state_of_readiness_has_a_group() -> None:
    assert READY | OUTSTANDING | {Readiness.WAIVED} == set(Readiness)
    assert {one.group for one in Readiness} == {"verified", "unverified", "outstanding", "waived"}


def test_counting_takes_one_query(rotation: Rotation) -> None:
    with CaptureQueriesContext(connection) as queries:
        count_readiness([rotation.pk])
    assert len(queries) == 1
