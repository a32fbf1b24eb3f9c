"""The partners of a rotation in one table: what each has come to, what to do next, and the same for several at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from partners.models import Contact, Partner, Partnership
from rotations.errors import ActionRefused
from rotations.exchange import follow_up, responses, time_slots
from rotations.exchange.partner_evidence import last_responses
from rotations.exchange.partner_status import PartnerStatus
from rotations.execution import confirmations
from rotations.letters import access_links, announcements
from rotations.lifecycle import approval, endings
from rotations.models import Letter, Participant, Rotation
from rotations.web.presenters import partner_summary
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text, post_form

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

EARLIER = NOW - timedelta(hours=5)
NORA = Actor(name="Nora North (Northwind)", source="portal", address="203.0.113.9")


@pytest.fixture
def told(company: Company, rotation: Rotation) -> Rotation:
    """A rotation of which both partners were told five hours ago."""
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=EARLIER)
    return rotation


def sheet(rotation: Rotation, *, at: timedelta = timedelta(0), show: str = "") -> RotationDetail:
    user = User.objects.get(username="alice")
    return RotationDetail.of(rotation, user=user, now=NOW + at, zone="Europe/Berlin", show=show)


def row_of(rotation: Rotation, name: str, **options: Any) -> Any:
    return next(r for r in sheet(rotation, **options).rows if r.participant.partner.name == name)


def confirm(
    participant: Participant,
    *,
    spoke_with: str = "",
    note: str = "",
    fingerprint: str = "",
    agreed: bool = True,
) -> None:
    answer = confirmations.PartnerAnswer(spoke_with, by=NORA, now=NOW, note=note)
    confirmations.confirm_installation(participant, answer, fingerprint=fingerprint, agreed=agreed)


def add_note(participant: Participant, note: str, *, spoke_with: str = "") -> None:
    confirmations.add_note(participant, confirmations.PartnerAnswer(spoke_with, by=NORA, now=NOW, note=note))


def propose(participant: Participant) -> None:
    other = window(STARTS + timedelta(days=2), zone="America/Chicago")
    responses.propose_window(participant, other, note="Stock count", by=NORA, now=NOW)


# What each has come to


def test_the_row_shows_what_a_partner_has_come_to(
    operator: Client, company: Company, told: Rotation, northwind: Participant
) -> None:
    confirm(northwind, fingerprint=pki.format_fingerprint(company.new.sha256), note="Night shift")
    shown = page_text(get_page(operator, "rotation-detail", told.uid))
    row = shown.partition(f'id="partner-{northwind.uid}"')[2].partition("</tr>")[0]
    for words in ("ready", "23 Nov", "fingerprint", "Has it", "“Night shift”", "Nora North, "):
        assert words in row
    assert "(Northwind)" not in row  # the row says whose word it is
    assert "1 of 2 ready, 1 told." in shown


def test_the_sum_is_told_in_words(company: Company, told: Rotation, northwind: Participant) -> None:
    assert partner_summary.summarize_partners(sheet(told).rows) == "0 of 2 ready, 2 told"
    propose(northwind)
    assert (
        partner_summary.summarize_partners(sheet(told).rows)
        == "0 of 2 ready, 1 proposes another time, 1 told"
    )
    responses.decline(northwind, reason="No", by=NORA, now=NOW)
    assert partner_summary.summarize_partners(sheet(told).rows) == "0 of 2 ready, 1 said no, 1 told"


def test_every_standing_has_its_words_and_its_icon() -> None:
    assert {*partner_summary.STATUS_TEXTS, PartnerStatus.READY} == set(PartnerStatus)


@pytest.mark.parametrize(
    ("show", "names"),
    [
        ("", ["Fabrikam", "Northwind"]),
        ("awaited", ["Fabrikam", "Northwind"]),
        ("declined", ["Northwind"]),
        ("announced", ["Fabrikam"]),
        ("nonsense", ["Fabrikam", "Northwind"]),
    ],
)
def test_the_table_is_narrowed_by_who_is_waited_for_and_by_standing(
    operator: Client, told: Rotation, northwind: Participant, show: str, names: list[str]
) -> None:
    responses.decline(northwind, reason="No", by=NORA, now=NOW)
    assert [r.participant.partner.name for r in sheet(told, show=show).shown] == names
    chips = [(chip.name, chip.count) for chip in sheet(told).chips]
    assert chips == [("", 2), ("awaited", 2), ("declined", 1), ("announced", 1)]
    shown = page_text(operator.get(f"{told.get_absolute_url()}?show={show}"))
    assert f"&amp;show={show}" in shown or not show  # the part that renews itself stays narrowed


def test_the_next_thing_to_do_is_one_button(
    company: Company, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    def label(name: str, **options: Any) -> str:
        choice = row_of(rotation, name, **options).next
        return choice.label if choice else ""

    assert label("Northwind") == "Announce …"
    northwind.partner.contacts.update(email="")
    assert label("Northwind") == "Make a link …"
    northwind.partner.contacts.update(email="nora@northwind.example")
    announcements.announce(northwind, by=company.by, now=NOW)
    assert label("Northwind") == "Record answer"
    Message.objects.update(state="failed")
    assert label("Northwind") == "Make a link …"
    Message.objects.update(state="sent")
    propose(northwind)
    assert label("Northwind") == "Decide …"
    confirm(northwind, fingerprint=company.new.sha256)
    assert label("Northwind") == ""
    rotation.steps.filter(act="announce").update(blocked=True)
    assert label("Fabrikam") == "Record answer"  # somebody may have called before it was their turn
    endings.cancel(rotation, reason="No", by=company.by, now=NOW)
    assert label("Fabrikam") == ""


def test_a_draft_shows_whom_it_is_about_and_no_more(operator: Client, company: Company) -> None:
    shown = page_text(get_page(operator, "rotation-detail", make_drafted(company).uid))
    assert "Leave out …" in shown
    assert "Comes to" not in shown


def test_the_last_word_is_read_off_the_trail(
    company: Company, told: Rotation, northwind: Participant
) -> None:
    assert last_responses(told) == {}
    propose(northwind)
    confirm(northwind, note="We can after all", agreed=False)
    (word,) = last_responses(told).values()
    assert (word.who, word.what, word.note) == (NORA.name, "says that it has it", "We can after all")
    add_note(northwind, "Ill today", spoke_with="Nils")
    (word,) = last_responses(told).values()
    assert (word.who, word.note) == ("Nils", "Ill today")


def test_the_next_reminder_is_shown(told: Rotation) -> None:
    assert row_of(told, "Northwind").reminded_at == STARTS - timedelta(days=7)


# What needs somebody


def test_what_partners_said_is_listed_with_what_to_do(
    operator: Client, told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    propose(northwind)
    responses.decline(fabrikam, reason="Our software is replaced", by=NORA, now=NOW)
    needs = sheet(told).needs
    assert [(need.meaning, need.text, need.label) for need in needs] == [
        ("urgent", "Fabrikam says no.", "Decide"),
        ("needs_you", "Northwind proposes another time.", "Decide"),
    ]
    assert needs[0].more == "“Our software is replaced”"
    assert needs[1].more == "Sat 5 Dec 2026, 22:00 to 23:00 CST (UTC−06:00). Stock count"
    assert needs[1].url == reverse("participant-detail", args=[northwind.uid])


def test_several_who_said_the_same_are_one_line(
    told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    for participant in (northwind, fabrikam):
        responses.decline(participant, reason="No", by=NORA, now=NOW)
    (need,) = sheet(told).needs
    assert need.text == "Fabrikam and Northwind say no."
    assert need.url == f"{told.get_absolute_url()}?show=declined#partners"


def test_who_can_not_be_reached_is_named(told: Rotation) -> None:
    Message.objects.filter(to_address="nora@northwind.example").update(state="failed")
    texts = [need.text for need in sheet(told).needs]
    assert "Northwind can’t be reached by mail." in texts
    assert any(text.startswith("Fabrikam has not confirmed") for text in texts)


def test_announcing_is_the_first_thing_after_approval(company: Company, rotation: Rotation) -> None:
    company.alice.groups.add(Group.objects.get(name="operator"))
    found = sheet(rotation)
    assert found.primary is not None
    assert found.primary.label == "Announce to 2 partners …"
    assert found.primary.url == reverse("rotation-announce", args=[rotation.uid])
    assert [need.label for need in found.needs] == ["Announce to 2 partners …"]


def test_nobody_is_announced_to_before_it_is_staged(company: Company, rotation: Rotation) -> None:
    company.alice.groups.add(Group.objects.get(name="operator"))
    rotation.steps.filter(act="announce").update(blocked=True)
    found = sheet(rotation)
    assert not any("not told" in need.text for need in found.needs)
    assert found.primary is None or "Announce" not in found.primary.label


# The page renews itself


@pytest.mark.parametrize("what", ["opened", "downloaded", "proposed", "declined", "bounced", "slots", "word"])
def test_whatever_a_partner_does_renews_the_page(
    company: Company, told: Rotation, northwind: Participant, what: str
) -> None:
    before = sheet(told).version
    assert sheet(told).version == before
    link = northwind.links.get()
    link.participant = northwind
    match what:
        case "opened":
            access_links.record_opened(link, by=NORA, now=NOW)
        case "downloaded":
            access_links.record_download(link, "pem", by=NORA, now=NOW)
        case "proposed":
            propose(northwind)
        case "declined":
            responses.decline(northwind, reason="No", by=NORA, now=NOW)
        case "bounced":
            Message.objects.filter(to_address="nora@northwind.example").update(bounced_at=NOW)
        case "slots":
            (slot,) = time_slots.offer_slots(told, [window(STARTS)], by=company.by, now=NOW)
            before = sheet(told).version
            time_slots.answer_slots(northwind, [slot], by=NORA, now=NOW)
        case "word":
            add_note(northwind, "Calls back")
    assert sheet(told).version != before


def more(company: Company, number: int) -> Rotation:
    """Return a rotation of so many more partners, all told, each with an answer of its own."""
    for n in range(number):
        partner = Partner.objects.create(name=f"P{n:03}", as2_id=f"P{n:03}", holds="several", time_zone="UTC")
        Partnership.objects.create(identity=company.identity, partner=partner)
        Contact.objects.create(partner=partner, name="Ann", email=f"ann@p{n:03}.example")
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    (slot,) = time_slots.offer_slots(rotation, [window(STARTS)], by=company.by, now=NOW)
    for participant in rotation.participants.select_related("partner"):
        announcements.announce(participant, by=company.by, now=EARLIER)
        confirm(participant, agreed=False)
        time_slots.answer_slots(participant, [slot], by=NORA, now=NOW)
    return rotation


@pytest.mark.parametrize("name", ["rotation-detail", "rotation-live", "rotation-print", "rotation-announce"])
def test_the_pages_ask_as_often_for_two_partners_as_for_eight(
    operator: Client, company: Company, name: str
) -> None:
    def queries(rotation: Rotation) -> int:
        url = reverse(name, args=[rotation.uid])
        operator.get(url)
        with CaptureQueriesContext(connection) as asked:
            assert operator.get(url).status_code == 200
        return len(asked)

    few = more(company, 0)
    asked = queries(few)
    endings.cancel(few, reason="Enough", by=company.by, now=NOW)
    assert queries(more(company, 6)) == asked


# The same for several at once


def together(client: Client, rotation: Rotation, act: str, *participants: Participant, **given: Any) -> Any:
    ticked = [str(participant.uid) for participant in participants]
    return post_form(client, "rotation-together", rotation.uid, act=act, partner=ticked, **given)


def test_what_happens_to_whom_is_named_before_it_is_done(
    operator: Client, company: Company, told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    confirm(fabrikam, fingerprint=company.new.sha256)
    response = together(operator, told, "nudge", northwind, fabrikam)
    assert response.status_code == 200
    shown = page_text(response)
    assert "A reminder goes to Nora North, nora@northwind.example." in shown
    assert "Fabrikam has answered: nothing is awaited from it any more." in shown
    assert "Remind 1 partner<" in shown
    assert not Letter.objects.filter(kind="nudge").exists()


def test_each_is_reminded_by_itself_and_the_result_names_them(
    operator: Client,
    told: Rotation,
    northwind: Participant,
    fabrikam: Participant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nudge = follow_up.nudge_now

    def not_fabrikam(participant: Participant, **options: Any) -> list[Letter]:
        sent = nudge(participant, **options)
        if participant.partner.name == "Fabrikam":
            raise ActionRefused("Its mail could not be written.")
        return sent

    monkeypatch.setattr(follow_up, "nudge_now", not_fabrikam)
    assert together(operator, told, "nudge", northwind, fabrikam, sure="1").status_code == 302
    shown = page_text(get_page(operator, "rotation-detail", told.uid))
    assert "Reminded: Northwind." in shown
    assert "Fabrikam was not reminded: Its mail could not be written." in shown
    assert [letter.partner.name for letter in Letter.objects.filter(kind="nudge")] == ["Northwind"]


def test_reminding_twice_within_an_hour_is_refused(
    operator: Client, told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    together(operator, told, "nudge", northwind, sure="1")
    assert "was written to a minute ago" in page_text(together(operator, told, "nudge", northwind, fabrikam))
    together(operator, told, "nudge", northwind, sure="1")
    assert "Northwind was not reminded: Northwind was written to" in page_text(
        get_page(operator, "rotation-detail", told.uid)
    )
    assert Letter.objects.filter(kind="nudge").count() == 1


def test_more_time_is_given_until_a_moment_on_the_windows_clock(
    operator: Client, told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    given = {"day": "2026-12-01", "time": "17:00", "sure": "1"}
    assert together(operator, told, "extend", northwind, fabrikam, **given).status_code == 302
    northwind.refresh_from_db()
    assert northwind.answer_by == datetime(2026, 12, 1, 23, 0, tzinfo=UTC)  # 17:00 in Chicago
    assert "Has more time now: Fabrikam and Northwind." in page_text(
        get_page(operator, "rotation-detail", told.uid)
    )
    together(operator, told, "extend", northwind, **given)
    assert "Northwind got no more time: Northwind has until" in page_text(
        get_page(operator, "rotation-detail", told.uid)
    )


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2026-11-20", "That moment is over"),
        ("2026-12-20", "The window begins"),
        ("", "This field is required."),
    ],
)
def test_no_time_is_given_that_can_not_be(
    operator: Client, told: Rotation, northwind: Participant, day: str, said: str
) -> None:
    response = together(operator, told, "extend", northwind, day=day, time="17:00", sure="1")
    assert response.status_code == 422
    assert said in response.context["form"].errors["day"][0]
    northwind.refresh_from_db()
    assert northwind.answer_by is None


def test_going_on_without_several_wants_one_reason(
    operator: Client, told: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    assert together(operator, told, "waive", northwind, fabrikam, sure="1").status_code == 422
    assert together(operator, told, "waive", northwind, fabrikam, sure="1", reason="Pilot").status_code == 302
    assert set(told.participants.values_list("waived_reason", flat=True)) == {"Pilot"}
    assert Entry.objects.filter(verb="participant.waived", reason="Pilot").count() == 2
    assert "Nothing is awaited from Northwind any more." in page_text(
        together(operator, told, "waive", northwind)
    )


def test_ticks_lead_to_the_mails_and_to_paper(
    operator: Client, told: Rotation, northwind: Participant
) -> None:
    shown = page_text(together(operator, told, "announce", northwind))
    assert "Send 1 mail to 1 partner" in shown
    shown = page_text(together(operator, told, "print", northwind))
    assert "1 of them here" in shown
    assert "Fabrikam" not in shown.partition("<table")[2]
    assert Letter.objects.count() == 2


def test_nothing_ticked_and_nothing_known_do_nothing(operator: Client, told: Rotation) -> None:
    response = together(operator, told, "nudge")
    assert response["Location"] == f"{told.get_absolute_url()}#partners"
    assert "Tick the partners first." in page_text(get_page(operator, "rotation-detail", told.uid))
    assert together(operator, told, "dance").status_code == 404


def test_who_left_meanwhile_is_told_to_be_gone(
    operator: Client, told: Rotation, northwind: Participant
) -> None:
    Participant.objects.filter(pk=northwind.pk).update(removed_reason="Ends in May")
    assert together(operator, told, "waive", northwind, sure="1", reason="x").status_code == 302
    northwind.refresh_from_db()
    assert northwind.waived_reason == ""


@pytest.mark.parametrize("act", ["announce", "nudge", "extend", "waive", "print"])
@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_only_operators_do_something_for_several(
    role: str, act: str, told: Rotation, northwind: Participant
) -> None:
    client = log_in(make_person(f"a {role}", role))
    assert together(client, told, act, northwind, sure="1", reason="x").status_code == 403
    shown = page_text(get_page(client, "rotation-detail", told.uid))
    assert "With those ticked" not in shown
    assert 'name="partner"' not in shown
    assert get_page(client, "rotation-print", told.uid).status_code == 200


def test_paper_holds_head_and_table_and_nothing_to_press(operator: Client, told: Rotation) -> None:
    shown = page_text(get_page(operator, "rotation-print", told.uid))
    main = shown.partition("<main")[2]
    assert "css/paper" in shown
    assert pki.format_fingerprint(told.new.sha256).replace(":", ":<wbr>") in main  # type: ignore[union-attr]
    assert "0 of 2 ready, 2 told." in main
    assert not re.search(r"<button|<input|<form", main)
