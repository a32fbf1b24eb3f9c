"""The operator's wording of mails: placeholders, defaults, and whose wording is used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from partners.models import Partner
from rotations.errors import UnknownPlaceholder
from rotations.letters import mail_templates
from rotations.models import Phrase

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
def test_unknown_placeholders_are_refused(text: str, said: str) -> None:
    with pytest.raises(UnknownPlaceholder) as error:
        mail_templates.check_placeholders(text, Phrase.Kind.ANNOUNCEMENT)
    assert said in str(error.value)


def test_a_request_for_a_certificate_knows_no_window() -> None:
    with pytest.raises(UnknownPlaceholder):
        mail_templates.check_placeholders("{window}", Phrase.Kind.HAND_IN)


@pytest.mark.parametrize("kind", Phrase.Kind.values)
def test_the_default_texts_are_valid(kind: str) -> None:
    words = mail_templates.DEFAULT_TEXTS[kind]
    for text in (words.subject, words.opening, words.closing):
        mail_templates.check_placeholders(text, kind)


def test_a_value_never_brings_a_line_of_its_own() -> None:
    assert (
        mail_templates.fill_placeholders("Hello {contact},", {"contact": "Nora\r\nBcc: x@example.com"})
        == "Hello Nora Bcc: x@example.com,"
    )


def test_a_value_is_not_filled_in_again() -> None:
    assert mail_templates.fill_placeholders("{partner}", {"partner": "{our_phone}", "our_phone": "1"}) == "{our_phone}"


@pytest.mark.django_db
def test_a_partners_own_wording_overrides_that_for_all() -> None:
    northwind = Partner.objects.create(name="Northwind", as2_id="N")
    contoso = Partner.objects.create(name="Contoso", as2_id="C")
    assert mail_templates.mail_text_for("nudge", northwind) == mail_templates.DEFAULT_TEXTS["nudge"]
    Phrase.objects.create(kind="nudge", subject="All", opening="a")
    Phrase.objects.create(kind="nudge", subject="Northwind", opening="n", partner=northwind)
    assert mail_templates.mail_text_for("nudge", northwind).subject == "Northwind"
    assert mail_templates.mail_text_for("nudge", contoso).subject == "All"
