"""Mail templates for all partners and for one: preview, validation and reset."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from partners.models import Partner
from rotations.letters import announcements, mail_templates
from rotations.models import Participant, Phrase
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.pages import get_page, page_text

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

OWN: dict[str, Any] = {
    "subject": "{our_name}: new key for {station}",
    "opening": "Dear {contact},\r\nhere it is.",
    "closing": "Bye",
}


@pytest.fixture
def administrator(company: Company) -> Client:
    return log_in(make_person("ada", "administrator"))


def write(client: Client, kind: str, partner: Partner | None = None, *, verb: str = "update", **words: Any) -> Any:
    given = [str(partner.uid), kind] if partner else [kind]
    return client.post(reverse(f"{'partner-' if partner else ''}phrase-{verb}", args=given), words)


def test_the_form_starts_with_the_default_template(administrator: Client) -> None:
    shown = page_text(get_page(administrator, "phrase-update", "announcement"))
    assert mail_templates.DEFAULT_TEXTS["announcement"].subject in shown
    assert "Go back to the wording" not in shown
    assert page_text(get_page(administrator, "phrase-list")).count("as it comes") == len(Phrase.Kind)


def test_a_custom_template_is_used_for_the_next_mail(administrator: Client, northwind: Participant) -> None:
    assert write(administrator, "announcement", **OWN).status_code == 302
    (draft,) = announcements.build_preview(northwind, now=NOW).letters
    assert draft.message.subject == "Our company: new key for ACME"
    assert "Dear Nora North,\nhere it is." in draft.text
    entry = Entry.objects.get(verb="phrase.created")
    assert (entry.actor_name, entry.new["closing"]) == ("ada", "Bye")
    assert "own wording" in page_text(get_page(administrator, "phrase-list"))


def test_a_partners_template_overrides_the_general_one(
    administrator: Client, operator: Client, northwind: Participant, fabrikam: Participant
) -> None:
    write(administrator, "announcement", **OWN)
    write(operator, "announcement", northwind.partner, **{**OWN, "subject": "For {partner} alone"})
    subjects = [announcements.build_preview(p, now=NOW).letters[0].message.subject for p in (northwind, fabrikam)]
    assert subjects == ["For Northwind alone", "Our company: new key for ACME"]
    assert "For Northwind alone" in page_text(get_page(operator, "partner-phrase-list", northwind.partner.uid)).replace(
        "{partner}", "Northwind"
    )
    assert Entry.objects.about(northwind.partner).filter(verb="phrase.created").count() == 1


@pytest.mark.parametrize(
    ("kind", "field", "words", "expected"),
    [
        (
            "announcement",
            "subject",
            "{nonsense}",
            "“{nonsense}” is not a placeholder. Known here are: {contact}",
        ),
        ("announcement", "opening", "100 % {", "A brace stands alone"),
        ("hand_in", "closing", "until {window}", "“{window}” is not a placeholder."),
        ("nudge", "subject", "", "This field is required."),
    ],
)
def test_an_unknown_placeholder_is_an_error_of_its_field(
    administrator: Client, kind: str, field: str, words: str, expected: str
) -> None:
    response = write(administrator, kind, **{**OWN, "subject": "x", "opening": "x", field: words})
    assert response.status_code == 422
    assert expected in response.context["form"].errors[field][0]
    assert not Phrase.objects.exists()


def test_a_template_can_be_previewed_without_being_saved(administrator: Client, northwind: Participant) -> None:
    shown = page_text(write(administrator, "announcement", look="1", **OWN))
    assert "Our company: new key for Retail" in shown
    assert "Dear Dana Whitfield," in shown
    assert not Phrase.objects.exists()
    url = reverse("partner-phrase-update", args=[northwind.partner.uid, "announcement"])
    part = page_text(administrator.post(url, {**OWN, "look": "1"}, headers={"HX-Request": "true"}))
    assert part.startswith("<h2>An example</h2>")
    assert "Dear Nora North," in part  # the example is the partner's own
    part = page_text(administrator.post(url, {**OWN, "closing": "{oh}", "look": "1"}, headers={"HX-Request": "true"}))
    assert "How it ends: “{oh}” is not a placeholder" in part


def test_placeholders_are_listed_with_their_meaning(administrator: Client) -> None:
    shown = page_text(get_page(administrator, "phrase-update", "hand_in"))
    assert '<dt class="mono">{old_ends}</dt><dd>the day on which the old certificate ends</dd>' in shown
    assert "{window}" not in shown
    assert "{window}" in page_text(get_page(administrator, "phrase-update", "nudge"))


def test_saving_the_current_template_stores_nothing(administrator: Client) -> None:
    words = mail_templates.DEFAULT_TEXTS["nudge"]
    given: dict[str, Any] = {
        "subject": words.subject,
        "opening": words.opening.replace("\n", "\r\n"),
        "closing": words.closing,
    }
    assert write(administrator, "nudge", **given).status_code == 302
    assert not Phrase.objects.exists()


def test_resetting_deletes_the_template_once(administrator: Client, operator: Client, northwind: Participant) -> None:
    write(administrator, "announcement", **OWN)
    write(operator, "announcement", northwind.partner, **{**OWN, "subject": "Alone"})
    shown = page_text(get_page(operator, "partner-phrase-update", northwind.partner.uid, "announcement"))
    assert "Go back to the wording for all partners" in shown
    response = write(operator, "announcement", northwind.partner, verb="reset")
    assert "The wording is as for all partners again." in page_text(operator.get(response["Location"]))
    assert announcements.build_preview(northwind, now=NOW).contents[0].subject == "Our company: new key for ACME"
    response = write(operator, "announcement", northwind.partner, verb="reset")
    assert "nothing was changed" in page_text(operator.get(response["Location"]))
    write(administrator, "announcement", verb="reset")
    assert (
        announcements.build_preview(northwind, now=NOW).contents[0].subject.startswith("Our company, AS2 ID ACME-PROD")
    )
    assert [e.old["subject"] for e in Entry.objects.filter(verb="phrase.reset")] == [OWN["subject"], "Alone"]


@pytest.mark.on_postgres
def test_a_concurrent_edit_is_reported(
    administrator: Client, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_page(administrator, "phrase-update", "nudge")
    check = mail_templates.check_placeholders

    def and_somebody_else_writes(text: str, kind: str) -> None:
        check(text, kind)
        Phrase.objects.get_or_create(kind=kind, partner=None, defaults={"subject": "Theirs", "opening": "x"})

    monkeypatch.setattr(mail_templates, "check_placeholders", and_somebody_else_writes)
    response = write(administrator, "nudge", **{**OWN, "subject": "Mine"})
    assert response.status_code == 422
    assert "Somebody wrote this wording at the same moment." in page_text(response)
    assert Phrase.objects.get().subject == "Theirs"


def test_an_unknown_kind_of_mail_is_not_found(administrator: Client, company: Company) -> None:
    assert get_page(administrator, "phrase-update", "greeting").status_code == 404
    assert write(administrator, "greeting", verb="reset").status_code == 404


def test_who_may_change_which_wording(operator: Client, viewer: Client, company: Company) -> None:
    partner = company.partners[0]
    assert get_page(operator, "phrase-update", "nudge").status_code == 403
    assert get_page(operator, "partner-phrase-update", partner.uid, "nudge").status_code == 200
    for client, given in ((operator, None), (viewer, partner)):
        assert write(client, "nudge", given, **OWN).status_code == 403
        assert write(client, "nudge", given, verb="reset").status_code == 403
    assert not Phrase.objects.exists()
