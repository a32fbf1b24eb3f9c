"""The partner's page in each state of the change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from icalendar import Calendar

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.capabilities import Support
from identities.models import AS2System, Identity
from partners.models import Contact, Partner, Partnership
from rotations.exchange import responses
from rotations.exchange.follow_up import nudge_now
from rotations.exchange.time_slots import offer_slots
from rotations.execution import transitions
from rotations.execution.confirmations import PartnerAnswer, confirm_installation, waive
from rotations.letters.announcements import announce
from rotations.lifecycle import approval, drafts, endings, rescheduling
from rotations.models import AtEnd, Participant, Rotation, Step
from rotations.planning.windows import Window
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_draft, partner_certificate, window
from tests.rotations.pages import STARTS
from tests.rotations.web.portal.conftest import ALICE, Clock
from tests.rotations.web.portal.visitor import Visitor, page_text

pytestmark = pytest.mark.django_db

Visit = Callable[..., Visitor]


def test_the_page_shows_who_asks_what_by_when_and_whom_to_call(nora: Visitor) -> None:
    Installation.objects.update_or_create(pk=1, defaults={"name": "ACME Corporation"})
    nora.open()
    for words in (
        "ACME Corporation AS2 ID ACME-PROD",
        "Our AS2 certificate changes",
        "Please add the new one beside the old one by Thu 3 Dec 2026, 22:00 CST.",
        "ends on 13 Dec 2026",
        "Thu 3 Dec 2026, 22:00 to 23:00 CST (UTC−06:00) Fri 4 Dec 2026, 04:00 to 05:00 UTC",
        "Call Alice Adler, +49 30 901820",
        "your system then sends orders again that we have already processed",
    ):
        assert words in nora.text, words
    assert 'href="tel:+4930901820"' in nora.page.content.decode()


def test_the_page_has_no_navigation_of_ours(nora: Visitor) -> None:
    text = nora.open().content.decode()
    assert "AS2 Certs" not in text
    assert "htmx" not in text
    assert reverse("login") not in text
    assert 'class="bar"' not in text


def test_both_certificates_are_shown(company: Company, nora: Visitor) -> None:
    nora.open()
    for certificate in (company.old, company.new):
        for words in (
            pki.format_fingerprint(certificate.sha256),
            pki.format_fingerprint(certificate.sha1),
            pki.serial_hex(int(certificate.serial)),
            certificate.subject,
        ):
            assert words in nora.text, words


def test_opening_is_recorded_once_and_is_no_answer(nora: Visitor, northwind: Participant) -> None:
    nora.client.head(nora.address())
    northwind.refresh_from_db()
    assert (northwind.fetched_at, northwind.opened_at) == (None, None)
    nora.open()
    for _ in range(2):
        assert nora.client.post(nora.address("portal-opened")).status_code == 204
    northwind.refresh_from_db()
    assert northwind.opened_at == NOW
    entry = Entry.objects.get(verb="participant.opened")
    assert (entry.actor_name, entry.address, entry.source) == (
        "Nora North (Northwind)",
        "198.51.100.7",
        "portal",
    )
    assert (northwind.evidence, northwind.agreed_at) == ("", None)


@pytest.mark.parametrize(
    "form", ["pem", *(pytest.param(form, marks=pytest.mark.extended) for form in ("der", "p7b")), "zip"]
)
def test_downloads_in_each_format_are_recorded(
    company: Company, nora: Visitor, northwind: Participant, form: str
) -> None:
    answer = nora.client.post(nora.address("portal-download", form))
    assert answer["Content-Disposition"].startswith(f'attachment; filename="ACME-{company.new.sha256[:8]}.')
    assert "no-store" in answer["Cache-Control"]
    if form != "zip":
        assert pki.read_public(answer.content, partner=True).leaf == company.new.certificate
    northwind.refresh_from_db()
    assert northwind.downloaded_at == NOW
    assert Entry.objects.get(verb="participant.downloaded").new == {"form": form}


def test_a_head_request_is_no_download(nora: Visitor, northwind: Participant) -> None:
    assert nora.client.head(nora.address("portal-download", "pem")).status_code == 200
    northwind.refresh_from_db()
    assert (northwind.file_fetched_at, northwind.downloaded_at) == (None, None)


def test_an_unknown_format_is_not_found(nora: Visitor) -> None:
    assert nora.client.get(nora.address("portal-download", "p12")).status_code == 404


def test_the_calendar_entry_equals_that_of_the_mail_and_has_no_link(nora: Visitor, northwind: Participant) -> None:
    answer = nora.client.get(nora.address("portal-calendar"))
    assert answer["Content-Type"].startswith("text/calendar")
    entry = Calendar.from_ical(answer.content)
    event = entry.walk("VEVENT")[0]
    assert (entry["method"], event["sequence"]) == ("PUBLISH", 0)
    assert str(event["uid"]).startswith(str(northwind.uid))
    assert event.decoded("dtstart") == STARTS
    assert "attendee" not in event
    assert "/p/" not in answer.content.decode()
    assert nora.token not in answer.content.decode()


def test_the_page_names_each_moment(nora: Visitor) -> None:
    facts = " ".join(nora.open().content.decode().split())
    assert "<dt>Please answer by</dt><dd>Tue 1 Dec 2026, 22:00 CST</dd>" in facts
    assert "<dt>Add it by</dt><dd>Thu 3 Dec 2026, 22:00 CST</dd>" in facts
    assert "<dt>Time of the change</dt><dd>Thu 3 Dec 2026, 22:00 to 23:00 CST" in facts


def test_the_first_question_is_open_and_the_others_folded(nora: Visitor) -> None:
    text = nora.open().content.decode()
    asked = text[text.index('<ol class="asked">') : text.index("</ol>", text.index('<ol class="asked">'))]
    assert asked.count("<details open>") == 1
    assert asked.index("<details open>") < asked.index("Add our new certificate beside the old one")
    assert asked.count('aria-current="step"') == 1
    assert "Say whether the time suits you" in asked


def test_at_most_three_questions_are_asked(
    visit: Visit, rotation: Rotation, one_slot_too: Rotation, clock: Clock
) -> None:
    for change in (rotation, one_slot_too):
        nora = visit(change.participants.get(partner__name="Northwind"))
        for at in (NOW, STARTS + timedelta(minutes=5), STARTS + timedelta(days=1)):
            clock.now = at
            assert 1 <= nora.open().content.decode().count('id="part-') - 3 <= 3


@pytest.fixture
def one_slot_too(rotation: Rotation, company: Company) -> Rotation:
    """A second change, of an identity whose partners hold one certificate at a time."""
    Partner.objects.update(**keeps_both(Support.NO))
    return rotation


def test_a_partner_that_holds_one_certificate_prepares_it_and_agrees_to_the_window(
    one_slot: Rotation, visit: Visit
) -> None:
    nora = visit(one_slot.participants.get(partner__name="Northwind"))
    nora.open()
    assert "Please change together with us on Thu 3 Dec 2026, 22:00 to 23:00 CST" in nora.text
    assert "Get our new certificate ready" in nora.text
    assert "Replace the old certificate by the new one, exactly then" in nora.text
    nora.client.post(nora.address("portal-download", "der"))
    nora.open()
    assert "Done: you have downloaded it" in nora.text
    assert nora.page.context["page"].open_question.key == "time"


def at(rotation: Rotation, state: str, **columns: Any) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state=state, **columns)


AFTER = STARTS + timedelta(hours=2)
STATES: list[tuple[str, dict[str, Any], Any, str]] = [
    ("exchanging", {}, NOW, "Our AS2 certificate changes"),
    ("scheduled", {}, NOW, "Our AS2 certificate changes"),
    ("scheduled", {}, STARTS - timedelta(hours=5), "The change is in 5 hours."),
    ("exchanging", {}, STARTS, "It is time, and we don’t have your answer"),
    ("exchanging", {}, AFTER, "The change was not made in its time"),
    ("under_way", {}, STARTS, "Since Thu 3 Dec 2026, 22:00 CST we use the new certificate."),
    ("applied", {"applied_at": STARTS}, AFTER, "Since Thu 3 Dec 2026, 22:00 CST we use the new certificate."),
    ("rolling_back", {}, AFTER, "We are going back to the old certificate"),
    ("cancelled", {"ended_at": NOW}, NOW, "This change is called off"),
    ("closed", {"ended_at": AFTER}, AFTER, "This change is complete"),
]


@pytest.mark.parametrize(("state", "columns", "now", "expected"), STATES)
def test_each_state_has_its_own_headline(
    nora: Visitor,
    rotation: Rotation,
    clock: Clock,
    state: str,
    columns: dict[str, Any],
    now: Any,
    expected: str,
) -> None:
    if state in ("under_way", "applied"):
        rotation.steps.filter(act="cut_over").update(state="done", done_at=STARTS)
    at(rotation, state, **columns)
    clock.now = now
    assert nora.open().status_code == 200
    assert expected in nora.text
    page = nora.page.context["page"]
    assert page.is_over == (state in ("cancelled", "closed"))
    # An ended change asks nothing and offers no unused certificate.
    if state == "cancelled":
        assert page.questions == []
        assert nora.client.get(nora.address("portal-download", "pem")).status_code == 302
        assert nora.client.get(nora.address("portal-calendar")).status_code == 302


def test_a_partner_that_changes_together_waits_until_we_are_ready(
    one_slot: Rotation, visit: Visit, clock: Clock
) -> None:
    nora = visit(one_slot.participants.get(partner__name="Northwind"))
    for now in (STARTS - timedelta(minutes=20), STARTS + timedelta(minutes=1)):
        clock.now = now
        nora.open()
        assert "Please wait: don’t change yet" in nora.text
        assert "Keep the old certificate until you hear from us" in nora.text
        assert "Replace the old certificate by the new one:" not in nora.text
    at(one_slot, "scheduled")
    nora.open()
    assert "Please wait: don’t change yet" in nora.text  # messages are not held yet, and the moment has come
    one_slot.steps.filter(act="cut_over").update(blocked=False)
    nora.open()
    assert "Replace the old certificate by the new one: Thu 3 Dec 2026, 22:00 to 23:00 CST" in nora.text
    one_slot.steps.filter(act="cut_over").update(state="failed")
    nora.open()
    assert "Please wait: don’t change yet" in nora.text
    one_slot.steps.filter(act="cut_over").update(state="done", done_at=STARTS)
    at(one_slot, "under_way")
    nora.open()
    assert "If you have not changed yet, please do it now." in nora.text


def test_each_partner_sees_its_own_window_when_we_sign_per_partner(
    nora: Visitor, rotation: Rotation, northwind: Participant, visit: Visit, clock: Clock
) -> None:
    clock.now = STARTS + timedelta(minutes=1)
    fabrikam = rotation.participants.get(partner__name="Fabrikam")
    fay = visit(fabrikam)
    rotation.steps.filter(act="cut_over").update(participant=fabrikam, state="done", done_at=STARTS)
    Step.objects.create(rotation=rotation, position=99, key="cut_over:northwind", act="cut_over", participant=northwind)
    at(rotation, "under_way")
    fay.open()
    assert "we use the new certificate. Does everything work?" in fay.text
    assert "Say that it can’t be done" not in fay.text  # it is refused by then
    nora.open()
    assert "we use the new certificate" not in nora.text
    assert "It is time" in nora.text
    assert "Say that it can’t be done" in nora.text  # until we have changed over for it, too


def test_a_rolled_back_change_differs_from_a_cancelled_one(nora: Visitor, rotation: Rotation, company: Company) -> None:
    for participant in rotation.participants.all():
        waive(participant, reason="a secret reason", by=company.by, now=NOW)
    rotation.refresh_from_db()
    rotation.steps.filter(act="cut_over").update(state="done", done_at=NOW)
    at(rotation, "under_way")
    rotation.refresh_from_db()
    endings.roll_back(rotation, reason="a secret reason", by=company.by, now=NOW)
    rotation.steps.exclude(state="skipped").update(state="done")
    rotation.refresh_from_db()
    transitions.advance_rotation(rotation, by=company.by, now=NOW)
    nora.open()
    assert "We went back to the old certificate" in nora.text
    assert "The change was taken back on" in nora.text
    assert "secret" not in nora.text


def test_a_removed_partner_sees_that_nothing_changes(nora: Visitor, northwind: Participant) -> None:
    Participant.objects.filter(pk=northwind.pk).update(removed_reason="They moved to SFTP")
    answer = nora.open()
    assert answer.status_code == 410
    assert "This change no longer concerns you" in nora.text
    assert "SFTP" not in nora.text


def test_a_waived_step_is_not_shown_as_done(nora: Visitor, northwind: Participant, company: Company) -> None:
    waive(northwind, reason="They never answer", by=company.by, now=NOW)
    nora.open()
    todo = nora.page.context["page"].instructions
    assert not any(step.done for step in todo)
    assert "never answer" not in nora.text
    assert "Add our new certificate beside the old one" in nora.text


def test_finished_steps_are_marked(nora: Visitor, northwind: Participant, company: Company) -> None:
    confirm_installation(northwind, PartnerAnswer("", by=company.by, now=NOW))
    nora.open()
    done = [step.instruction.act for step in nora.page.context["page"].instructions if step.done]
    assert done == ["install"]


def test_offered_times_are_shown_in_the_partners_zone_and_in_utc(
    nora: Visitor, rotation: Rotation, company: Company
) -> None:
    offer_slots(rotation, [window(STARTS), window(STARTS + timedelta(days=1))], by=company.by, now=NOW)
    nora.open()
    assert "At which of these times can you?" in nora.text
    assert "Fri 4 Dec 2026, 22:00 to 23:00 CST (UTC−06:00) Sat 5 Dec 2026, 04:00 to 05:00 UTC" in nora.text


def test_utc_is_shown_once_for_partners_in_utc(nora: Visitor) -> None:
    Partner.objects.update(time_zone="UTC")
    nora.open()
    assert nora.text.count("Fri 4 Dec 2026, 04:00 to 05:00 UTC") == 2


def test_a_test_environment_is_marked(nora: Visitor) -> None:
    assert "TEST" not in nora.open().content.decode()
    Identity.objects.update(environment="test")
    assert "TEST Production is not touched." in (nora.open() and nora.text)


def test_a_partners_own_certificate_is_not_downloadable(company: Company, visit: Visit) -> None:
    partner = company.partners[1]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=15))
    new = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=400))
    spec = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(STARTS))
    change = drafts.create_draft(partner, spec, by=company.by, now=NOW)
    approval.approve(change, by=company.approver, now=NOW)
    nora = visit(change.participants.get())
    nora.open()
    assert "Your AS2 certificate changes" in nora.text
    assert "Load the key of your new certificate" in nora.text
    assert "Download it" not in nora.text
    answer = nora.client.get(nora.address("portal-download", "pem"))
    assert answer["Location"] == nora.address()


# Other partners


def test_the_history_is_the_partners_own_without_our_reasons(
    nora: Visitor, rotation: Rotation, northwind: Participant, company: Company, visit: Visit
) -> None:
    fay = visit(rotation.participants.get(partner__name="Fabrikam"))
    fay.send("decline", reason="Fabrikam’s own words")
    nora.send("report", works="yes")  # too early: leaves nothing
    nora.send("decline", reason="Our night shift is away")
    confirm_installation(
        northwind,
        PartnerAnswer("Dave", by=company.by, now=NOW + timedelta(minutes=1), note="Dave was rude"),
        agreed=True,
    )
    later = window(STARTS + timedelta(days=1))
    rotation.refresh_from_db()
    rescheduling.postpone(
        rotation,
        rescheduling.WindowChange(later, reason="our reason"),
        by=company.by,
        now=NOW + timedelta(minutes=2),
    )
    nora.open()
    lines = [line.sentence for line in nora.page.context["page"].history]
    assert lines == [
        "Our company moved the time to 2026-12-04 22:00–23:00 America/Chicago",
        "Our company noted that you said that the certificate is there and that the time is all right",
        "Nora North said that it can’t be done: “Our night shift is away”",
        "Nora North opened this page",
        "Our company told you of this change",
    ]
    for secret in ("Fabrikam", "rude", "Dave", "our reason", "Alice", "alice@"):
        assert secret not in " ".join(lines), secret


def test_the_page_shows_nothing_of_other_partners(
    nora: Visitor, rotation: Rotation, company: Company, clock: Clock
) -> None:
    Contact.objects.filter(partner__name="Fabrikam").update(phone="+1 999 SECRET")
    for state, columns, now, _ in STATES:
        at(rotation, state, **columns)
        clock.now = now
        text = nora.open().content.decode()
        for secret in ("Fabrikam", "FABRIKAM", "SECRET", "Fay"):
            assert secret not in text, (state, secret)


def test_the_number_of_queries_does_not_depend_on_the_number_of_partners(
    nora: Visitor, rotation: Rotation, company: Company
) -> None:
    nora.open()
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            nora.open()
        counts.append(len(queries))
        partners = (
            [Partner.objects.create(name=f"P{n}", as2_id=f"P{n}", time_zone="UTC") for n in range(100)]
            if not Partner.objects.filter(name="P1").exists()
            else []
        )
        others = Participant.objects.bulk_create(Participant(rotation=rotation, partner=p) for p in partners)
        for other in others:
            responses.decline(other, reason="no", by=ALICE, now=NOW)
    assert counts[0] == counts[1] <= 20


# The operators' view of it


def test_an_operator_sees_the_same_page_without_enabled_forms(
    nora: Visitor, northwind: Participant, company: Company
) -> None:
    vera = log_in(make_person("vera", "viewer"))
    shown = vera.get(reverse("participant-as-partner", args=[northwind.uid]))
    text = shown.content.decode()
    nora.open()
    assert "This is what Northwind sees." in page_text(shown)
    for words in (
        "Please add the new one beside the old one by",
        "Add our new certificate beside the old one",
    ):
        assert words in page_text(shown)
    assert "/p/" not in text
    assert text.count("<form") == text.count("<fieldset disabled>") > 3
    northwind.refresh_from_db()
    assert Entry.objects.filter(verb="participant.fetched").count() == 1  # by Nora


def test_an_operator_sees_that_a_draft_asks_nothing(company: Company) -> None:
    participant = make_draft(company, starts=STARTS).participants.first()
    assert participant is not None
    shown = log_in(make_person("vera", "viewer")).get(reverse("participant-as-partner", args=[participant.uid]))
    assert f"Nothing is asked of {participant.partner} yet" in page_text(shown)


# Each partner when it is ready.

LAST = NOW + timedelta(days=15)


@pytest.fixture
def phased(company: Company) -> Rotation:
    """A change that began days ago, of which both partners were told; each changes when it is ready."""
    AS2System.objects.update(**SIGNS_PER_PARTNER)
    spec = drafts.DraftSpec(
        roles=("sign", "decrypt"),
        old=company.old,
        new=company.new,
        window=Window(NOW - timedelta(days=5), LAST, "America/Chicago"),
        at_end=AtEnd.PHASED,
    )
    rotation = drafts.create_draft(company.identity, spec, by=company.by, now=NOW)
    rotation = approval.approve(rotation, by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    for participant in rotation.participants.all():
        announce(participant, by=company.by, now=NOW)
    return rotation


@pytest.fixture
def ready_nora(phased: Rotation, visit: Visit) -> Visitor:
    return visit(phased.participants.select_related("partner", "rotation").get(partner__name="Northwind"))


def test_a_partner_that_changes_when_it_is_ready_reads_until_when(ready_nora: Visitor) -> None:
    ready_nora.open()
    for words in (
        "Please add the new one beside the old one by Tue 8 Dec 2026, 06:00 CST.",
        "You can switch as soon as you have answered, until Tue 8 Dec 2026, 06:00 CST.",
        "You can switch at any time until Tue 8 Dec 2026, 06:00 CST (UTC−06:00)",
        "Please answer by Fri 4 Dec 2026, 06:00 CST",
    ):
        assert words in ready_nora.text, words
    for words in ("It is time", "Propose another time", "This time is all right", "Time of the change", "18 Nov"):
        assert words not in ready_nora.text, words


def test_a_partner_that_changes_when_it_is_ready_reads_what_its_answer_does(
    ready_nora: Visitor, phased: Rotation, clock: Clock
) -> None:
    assert phased.new is not None
    ready_nora.open()
    ready_nora.send("installed", fingerprint=pki.format_fingerprint(phased.new.sha256))
    assert "The fingerprint is that of the new certificate" in ready_nora.text
    assert "We change over on" not in ready_nora.text
    Step.objects.filter(act="partner_cut_over").update(state="done", done_at=NOW)
    assert "We change for you now, usually within minutes" in page_text(ready_nora.open())


def test_a_partner_that_was_not_ready_until_the_last_moment_reads_so(ready_nora: Visitor, clock: Clock) -> None:
    clock.now = LAST - timedelta(hours=3)
    assert "The last moment is in 3 hours" in page_text(ready_nora.open())
    clock.now = LAST
    assert "The time for it is over: it was until Tue 8 Dec 2026, 06:00 CST." in page_text(ready_nora.open())


def test_mails_to_partners_that_change_when_ready_name_no_start(phased: Rotation, company: Company) -> None:
    mails = Message.objects.filter(kind="partner_announcement")
    assert mails.count() == 2
    northwind = phased.participants.get(partner__name="Northwind")
    nudge_now(northwind, by=company.by, now=NOW + timedelta(days=2))
    mails = Message.objects.filter(kind__startswith="partner_")
    assert mails.count() == 3
    for mail in mails:
        text = " ".join(mail.text.split())
        assert "add the new one beside the old one by Tue 8 Dec 2026, 06:00 CST" in text
        assert "The change: at any time until Tue 8 Dec 2026, 06:00 CST (UTC−06:00)" in text
        assert "18 Nov" not in text
    assert "We change for you as soon as you have answered." in " ".join(mails.order_by("id")[0].text.split())


def test_the_calendar_entry_of_a_partner_that_changes_when_ready_is_the_last_moment(ready_nora: Visitor) -> None:
    file = ready_nora.client.get(ready_nora.address("portal-calendar"))
    (event,) = Calendar.from_ical(file.content).walk("VEVENT")
    assert event.decoded("DTSTART") == LAST
    assert "DTEND" not in event
    assert str(event["SUMMARY"]).startswith("Last moment to add the new AS2 certificate of")


def test_it_names_the_test_address_where_test_messages_are_allowed(
    company: Company, nora: Visitor, northwind: Participant
) -> None:
    nora.open()
    assert "TEST MESSAGE" not in nora.text
    Partnership.objects.filter(partner=northwind.partner).update(allows_probes=True)
    nora.open()
    assert "/as2/, signed, with your AS2 ID and ours, and a text that begins with the words TEST MESSAGE." in nora.text
    assert "no order that is sent there is processed" in nora.text
    company.identity.certificates.update(private_key=None)
    nora.open()
    assert "We may send you AS2 test messages" in nora.text
    assert "TEST MESSAGE" not in nora.text
