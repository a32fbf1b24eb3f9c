"""Wording with placeholders, instructions from a plan, and the one word for what a participant has come to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from partners.models import Partner
from rotations.errors import UnknownPlaceholder
from rotations.exchange.partner_status import STATUS_MEANING, PartnerEvidence, PartnerStatus, derive_status
from rotations.letters import mail_templates
from rotations.letters.instructions import PartnerTask, build_instructions
from rotations.models import Phrase
from rotations.planning.change import Capacity, CertificateChange, Party, Role, System
from rotations.planning.plan import plan

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STARTS = NOW + timedelta(days=10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{partnr}", "“{partnr}” is not a placeholder. Known here are: {contact}, {partner}"),
        ("{partner.contacts}", "“{partner.contacts}” is not a placeholder"),
        ("{partner!r}", "is not a placeholder"),
        ("{}", "is not a placeholder"),
        ("a { alone", "A brace stands alone"),
        ("{{partner}}", "A brace stands alone"),
    ],
)
def test_wording_that_names_what_is_not_known_is_refused(text: str, said: str) -> None:
    with pytest.raises(UnknownPlaceholder) as error:
        mail_templates.check_placeholders(text, Phrase.Kind.ANNOUNCEMENT)
    assert said in str(error.value)


def test_a_request_for_a_certificate_knows_no_window() -> None:
    with pytest.raises(UnknownPlaceholder):
        mail_templates.check_placeholders("{window}", Phrase.Kind.HAND_IN)


@pytest.mark.parametrize("kind", Phrase.Kind.values)
def test_the_wording_that_comes_with_it_passes_its_own_check(kind: str) -> None:
    words = mail_templates.DEFAULT_TEXTS[kind]
    for text in (words.subject, words.opening, words.closing):
        mail_templates.check_placeholders(text, kind)


def test_a_value_never_brings_a_line_of_its_own() -> None:
    assert (
        mail_templates.fill_placeholders("Hello {contact},", {"contact": "Nora\r\nBcc: x@example.com"})
        == "Hello Nora Bcc: x@example.com,"
    )


def test_a_value_is_not_filled_in_again() -> None:
    assert (
        mail_templates.fill_placeholders("{partner}", {"partner": "{our_phone}", "our_phone": "1"})
        == "{our_phone}"
    )


@pytest.mark.django_db
def test_a_partners_own_wording_wins_over_that_for_all() -> None:
    northwind = Partner.objects.create(name="Northwind", as2_id="N")
    contoso = Partner.objects.create(name="Contoso", as2_id="C")
    assert mail_templates.mail_text_for("nudge", northwind) == mail_templates.DEFAULT_TEXTS["nudge"]
    Phrase.objects.create(kind="nudge", subject="All", opening="a")
    Phrase.objects.create(kind="nudge", subject="Northwind", opening="n", partner=northwind)
    assert mail_templates.mail_text_for("nudge", northwind).subject == "Northwind"
    assert mail_templates.mail_text_for("nudge", contoso).subject == "All"


# Instructions.


def instructed(side: str, roles: set[Role], ours: Capacity, theirs: Capacity) -> list[tuple[str, str]]:
    change = CertificateChange(
        side=side,  # type: ignore[arg-type]
        roles=frozenset(roles),
        systems=(System("s", "OpenAS2", ours),),
        parties=(Party("p", "Northwind", theirs),),
        starts=STARTS,
        ends=STARTS + timedelta(hours=1),
        now=NOW,
    )
    steps = [
        SimpleNamespace(
            act=s.act,
            simultaneous=s.simultaneous,
            roles=s.roles,
            state="waiting",
            earliest_at=s.earliest,
            latest_at=s.latest,
        )
        for s in plan(change)
        if s.partner == "p"
    ]
    task = PartnerTask(side, steps, change.starts, change.ends, None)  # type: ignore[arg-type]
    return [(i.title, i.when) for i in build_instructions(task)]


BOTH, ONE = Capacity.SEVERAL, Capacity.ONE
ADD = ("Add our new certificate beside the old one", "by")
ENCRYPT = ("Encrypt your messages to us with the new certificate", "by")
AGREE = ("Agree to the time, or propose another one", "by")
REPLACE = ("Replace the old certificate by the new one, exactly then", "at")
FLOW = ("Tell us whether messages flow", "from")
REMOVE = ("Remove our old certificate", "from")
LOAD = ("Load the private key of your new certificate beside the old one, and tell us", "by")
SWITCH = ("Switch to your new certificate, exactly then", "at")
COMPARE = ("Compare the fingerprint of your new certificate with us by telephone", "by")
SIGN = ("Sign with your new certificate, when you like", "by")
REMOVE_KEY = ("Remove the key of your old certificate", "from")


@pytest.mark.parametrize(
    ("side", "roles", "ours", "theirs", "expected"),
    [
        ("own", {Role.SIGN}, BOTH, BOTH, [ADD, FLOW, REMOVE]),
        ("own", {Role.SIGN}, BOTH, ONE, [AGREE, REPLACE, FLOW]),
        ("own", {Role.DECRYPT}, BOTH, BOTH, [ENCRYPT]),
        ("own", {Role.DECRYPT}, ONE, BOTH, [AGREE, REPLACE, FLOW]),
        ("own", {Role.SIGN, Role.DECRYPT}, BOTH, BOTH, [ADD, ENCRYPT, FLOW, REMOVE]),
        ("own", {Role.SIGN, Role.DECRYPT}, BOTH, ONE, [AGREE, REPLACE, FLOW]),
        ("partner", {Role.VERIFY}, BOTH, BOTH, [COMPARE, SIGN]),
        ("partner", {Role.ENCRYPT}, BOTH, BOTH, [COMPARE, LOAD, FLOW, REMOVE_KEY]),
        ("partner", {Role.VERIFY, Role.ENCRYPT}, ONE, BOTH, [COMPARE, LOAD, AGREE, SWITCH, FLOW, REMOVE_KEY]),
    ],
)
def test_what_a_partner_does_follows_the_plan(
    side: str, roles: set[Role], ours: Capacity, theirs: Capacity, expected: list[tuple[str, str]]
) -> None:
    assert instructed(side, roles, ours, theirs) == expected


# What a participant has come to.

NOTHING = PartnerEvidence(
    told_at=None,
    written=False,
    reached=False,
    nudged=False,
    opened_at=None,
    downloaded_at=None,
    strength="",
    agreed_at=None,
    declined_at=None,
    proposed_at=None,
    waived=False,
    works=None,
    awaited=True,
)
ANNOUNCED = replace(NOTHING, told_at=NOW, written=True, reached=True)


@pytest.mark.parametrize(
    ("known", "word"),
    [
        (NOTHING, PartnerStatus.NOT_TOLD),
        (ANNOUNCED, PartnerStatus.ANNOUNCED),
        (replace(ANNOUNCED, reached=False), PartnerStatus.UNREACHABLE),
        (replace(ANNOUNCED, reached=False, opened_at=NOW), PartnerStatus.OPENED),
        (replace(ANNOUNCED, opened_at=NOW), PartnerStatus.OPENED),
        (replace(ANNOUNCED, opened_at=NOW, downloaded_at=NOW), PartnerStatus.DOWNLOADED),
        (replace(ANNOUNCED, opened_at=NOW, downloaded_at=NOW, nudged=True), PartnerStatus.SILENT),
        (replace(ANNOUNCED, strength="weak"), PartnerStatus.INSTALLED_WEAK),
        (replace(ANNOUNCED, strength="weak", awaited=False), PartnerStatus.INSTALLED_WEAK),
        (replace(ANNOUNCED, strength="strong"), PartnerStatus.INSTALLED),
        (replace(ANNOUNCED, strength="strong", awaited=False), PartnerStatus.READY),
        (replace(ANNOUNCED, agreed_at=NOW), PartnerStatus.AGREED),
        (replace(ANNOUNCED, agreed_at=NOW, awaited=False), PartnerStatus.READY),
        (replace(ANNOUNCED, strength="strong", proposed_at=NOW), PartnerStatus.OTHER_TIME),
        (replace(ANNOUNCED, strength="strong", proposed_at=NOW, declined_at=NOW), PartnerStatus.DECLINED),
        (replace(ANNOUNCED, declined_at=NOW, waived=True), PartnerStatus.WAIVED),
        (replace(ANNOUNCED, waived=True, works=True), PartnerStatus.WORKS),
        (replace(ANNOUNCED, strength="strong", works=False), PartnerStatus.DOES_NOT_WORK),
        (replace(ANNOUNCED, migrated_at=NOW), PartnerStatus.MIGRATED),
        (replace(ANNOUNCED, migrated_at=NOW, works=True), PartnerStatus.WORKS),
        (replace(ANNOUNCED, works=True, straggling_at=NOW), PartnerStatus.STRAGGLES),
        (replace(ANNOUNCED, works=False, straggling_at=NOW), PartnerStatus.DOES_NOT_WORK),
    ],
)
def test_one_word_says_what_a_participant_has_come_to(known: PartnerEvidence, word: PartnerStatus) -> None:
    assert derive_status(known) is word


def test_every_word_has_a_meaning() -> None:
    assert set(STATUS_MEANING) == set(PartnerStatus)
