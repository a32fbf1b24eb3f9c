"""The table of a rotation's partners: statuses, next actions and bulk actions."""

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
from rotations.web.presenters import partner_table
from rotations.web.presenters.rotation_actions import RotationActions
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text, post_form

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

EARLIER = NOW - timedelta(hours=5)
NORA = Actor(name="Nora North (Northwind)", source="portal", address="203.0.113.9")


@pytest.fixture
def announced(company: Company, rotation: Rotation) -> Rotation:
    """A rotation whose partners were informed five hours ago."""
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=EARLIER)
    return rotation


def detail(rotation: Rotation, *, at: timedelta = timedelta(0), show: str = "") -> RotationDetail:
    user = User.objects.get(username="alice")
    return RotationDetail.of(rotation, user=user, now=NOW + at, zone="Europe/Berlin", show=show)


def row_of(rotation: Rotation, name: str, **options: Any) -> Any:
    return next(r for r in detail(rotation, **options).rows if r.participant.partner.name == name)


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
    answer = confirmations.PartnerAnswer(spoke_with, by=NORA, now=NOW, note=note)
    confirmations.record_answer(participant, answer, fingerprint="", installed=False, agreed=False)


def propose(participant: Participant) -> None:
    other = window(STARTS + timedelta(days=2), zone="America/Chicago")
    responses.propose_window(participant, other, note="Stock count", by=NORA, now=NOW)


# Statuses


def test_a_row_shows_the_status_of_its_partner(
    operator: Client, company: Company, announced: Rotation, northwind: Participant
) -> None:
    confirm(northwind, fingerprint=pki.format_fingerprint(company.new.sha256), note="Night shift")
    shown = page_text(get_page(operator, "rotation-detail", announced.uid))
    row = shown.partition(f'id="partner-{northwind.uid}"')[2].partition("</tr>")[0]
    for status_texts in ("ready", "23 Nov", "fingerprint", "Has it", "“Night shift”", "Nora North, "):
        assert status_texts in row
    assert "(Northwind)" not in row  # the row names its partner
    assert "1 of 2 ready, 1 told." in shown


def test_the_summary_counts_the_statuses(company: Company, announced: Rotation, northwind: Participant) -> None:
    assert partner_table.summarize_partners(detail(announced).rows) == "0 of 2 ready, 2 told"
    propose(northwind)
    assert partner_table.summarize_partners(detail(announced).rows) == "0 of 2 ready, 1 proposes another time, 1 told"
    responses.decline(northwind, reason="No", by=NORA, now=NOW)
    assert partner_table.summarize_partners(detail(announced).rows) == "0 of 2 ready, 1 said no, 1 told"


def test_every_status_has_a_text_and_an_icon() -> None:
    said_by_readiness = {PartnerStatus.READY, PartnerStatus.READY_UNVERIFIED, PartnerStatus.WAIVED}
    assert {*partner_table.STATUS_TEXTS} | said_by_readiness == set(PartnerStatus)


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
def test_the_table_is_filtered_by_awaited_partners_and_by_status(
    operator: Client, announced: Rotation, northwind: Participant, show: str, names: list[str]
) -> None:
    responses.decline(northwind, reason="No", by=NORA, now=NOW)
    assert [r.participant.partner.name for r in detail(announced, show=show).filtered_rows] == names
    filters = [(f.name, f.count) for f in detail(announced).filters]
    assert filters == [("", 2), ("awaited", 2), ("declined", 1), ("announced", 1)]
    shown = page_text(operator.get(f"{announced.get_absolute_url()}?show={show}"))
    assert f"&amp;show={show}" in shown or not show  # the refreshed part keeps the filter


def test_the_next_action_is_one_button(
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
    assert label("Fabrikam") == "Record answer"  # a partner may have called before it was informed
    endings.cancel(rotation, reason="No", by=company.by, now=NOW)
    assert label("Fabrikam") == ""


def test_a_draft_shows_its_partners_without_statuses(operator: Client, company: Company) -> None:
    shown = page_text(get_page(operator, "rotation-detail", make_drafted(company).uid))
    assert "Leave out …" in shown
    assert "Comes to" not in shown


def test_the_last_response_comes_from_the_audit_trail(
    company: Company, announced: Rotation, northwind: Participant
) -> None:
    assert last_responses(announced) == {}
    propose(northwind)
    confirm(northwind, note="We can after all", agreed=False)
    (last_response,) = last_responses(announced).values()
    assert last_response.who == NORA.name
    assert (last_response.what, last_response.note) == ("says that it has it", "We can after all")
    add_note(northwind, "Ill today", spoke_with="Nils")
    (last_response,) = last_responses(announced).values()
    assert (last_response.who, last_response.note) == ("Nils", "Ill today")


def test_the_next_reminder_is_shown(announced: Rotation) -> None:
    assert row_of(announced, "Northwind").reminded_at == STARTS - timedelta(days=7)


# Tasks


def test_responses_are_listed_with_their_actions(
    operator: Client, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    propose(northwind)
    responses.decline(fabrikam, reason="Our software is replaced", by=NORA, now=NOW)
    tasks = detail(announced).tasks
    assert [(task.meaning, task.text, task.label) for task in tasks] == [
        ("urgent", "Fabrikam says no.", "Decide"),
        ("needs_you", "Northwind proposes another time.", "Decide"),
    ]
    kept_back = "The change is not made until you have decided."
    assert tasks[0].more == f"“Our software is replaced” {kept_back}"
    assert tasks[1].more == f"Sat 5 Dec 2026, 22:00 to 23:00 CST (UTC−06:00). Stock count {kept_back}"
    assert tasks[1].url == reverse("participant-detail", args=[northwind.uid])


def test_the_same_response_of_several_partners_is_one_task(
    announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    for participant in (northwind, fabrikam):
        responses.decline(participant, reason="No", by=NORA, now=NOW)
    (task,) = detail(announced).tasks
    assert task.text == "Fabrikam and Northwind say no."
    assert task.url == f"{announced.get_absolute_url()}?show=declined#partners"


def test_unreachable_partners_are_named(announced: Rotation) -> None:
    Message.objects.filter(to_address="nora@northwind.example").update(state="failed")
    texts = [task.text for task in detail(announced).tasks]
    assert "Northwind can’t be reached by mail." in texts
    assert any(text.startswith("Fabrikam has not confirmed") for text in texts)


def test_announcing_is_the_first_task_after_approval(company: Company, rotation: Rotation) -> None:
    company.alice.groups.add(Group.objects.get(name="operator"))
    found = detail(rotation)
    actions = RotationActions(found)
    assert actions.primary is not None
    assert actions.primary.label == "Announce to 2 partners …"
    assert actions.primary.url == reverse("rotation-announce", args=[rotation.uid])
    assert [task.label for task in found.tasks] == ["Announce to 2 partners …"]


def test_no_announcement_is_offered_before_staging(company: Company, rotation: Rotation) -> None:
    company.alice.groups.add(Group.objects.get(name="operator"))
    rotation.steps.filter(act="announce").update(blocked=True)
    found = detail(rotation)
    actions = RotationActions(found)
    assert not any("not told" in task.text for task in found.tasks)
    assert actions.primary is None or "Announce" not in actions.primary.label


# Refreshing


@pytest.mark.parametrize("what", ["opened", "downloaded", "proposed", "declined", "bounced", "slots", "word"])
def test_every_response_changes_the_version_of_the_page(
    company: Company, announced: Rotation, northwind: Participant, what: str
) -> None:
    before = detail(announced).version
    assert detail(announced).version == before
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
            (slot,) = time_slots.offer_slots(announced, [window(STARTS)], by=company.by, now=NOW)
            before = detail(announced).version
            time_slots.answer_slots(northwind, [slot], by=NORA, now=NOW)
        case "word":
            add_note(northwind, "Calls back")
    assert detail(announced).version != before


def more(company: Company, number: int) -> Rotation:
    """Return a rotation of more partners, all informed, with different answers."""
    for n in range(number):
        partner = Partner.objects.create(name=f"P{n:03}", as2_id=f"P{n:03}", **keeps_both("yes"), time_zone="UTC")
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
def test_the_pages_take_as_many_queries_for_two_partners_as_for_eight(
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


# Bulk actions


def together(client: Client, rotation: Rotation, act: str, *participants: Participant, **given: Any) -> Any:
    ticked = [str(participant.uid) for participant in participants]
    return post_form(client, "rotation-together", rotation.uid, act=act, partner=ticked, **given)


def test_a_bulk_action_previews_its_effect_on_each_partner(
    operator: Client, company: Company, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    confirm(fabrikam, fingerprint=company.new.sha256)
    response = together(operator, announced, "nudge", northwind, fabrikam)
    assert response.status_code == 200
    shown = page_text(response)
    assert "A reminder goes to Nora North, nora@northwind.example." in shown
    assert "Fabrikam has answered: nothing is awaited from it any more." in shown
    assert "Remind 1 partner<" in shown
    assert not Letter.objects.filter(kind="nudge").exists()


def test_partners_are_reminded_separately_and_the_result_names_them(
    operator: Client,
    announced: Rotation,
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
    assert together(operator, announced, "nudge", northwind, fabrikam, sure="1").status_code == 302
    shown = page_text(get_page(operator, "rotation-detail", announced.uid))
    assert "Reminded: Northwind." in shown
    assert "Fabrikam was not reminded: Its mail could not be written." in shown
    assert [letter.partner.name for letter in Letter.objects.filter(kind="nudge")] == ["Northwind"]


def test_reminding_twice_within_an_hour_is_refused(
    operator: Client, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    together(operator, announced, "nudge", northwind, sure="1")
    assert "was written to a minute ago" in page_text(together(operator, announced, "nudge", northwind, fabrikam))
    together(operator, announced, "nudge", northwind, sure="1")
    assert "Northwind was not reminded: Northwind was written to" in page_text(
        get_page(operator, "rotation-detail", announced.uid)
    )
    assert Letter.objects.filter(kind="nudge").count() == 1


def test_the_deadline_is_extended_in_the_zone_of_the_window(
    operator: Client, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    given = {"day": "2026-12-01", "time": "17:00", "sure": "1"}
    assert together(operator, announced, "extend", northwind, fabrikam, **given).status_code == 302
    northwind.refresh_from_db()
    assert northwind.answer_by == datetime(2026, 12, 1, 23, 0, tzinfo=UTC)  # 17:00 in Chicago
    assert "Has more time now: Fabrikam and Northwind." in page_text(
        get_page(operator, "rotation-detail", announced.uid)
    )
    together(operator, announced, "extend", northwind, **given)
    assert "Northwind got no more time: Northwind has until" in page_text(
        get_page(operator, "rotation-detail", announced.uid)
    )


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-11-20", "That moment is over"),
        ("2026-12-20", "The window begins"),
        ("", "This field is required."),
    ],
)
def test_an_impossible_deadline_is_refused(
    operator: Client, announced: Rotation, northwind: Participant, day: str, expected: str
) -> None:
    response = together(operator, announced, "extend", northwind, day=day, time="17:00", sure="1")
    assert response.status_code == 422
    assert expected in response.context["form"].errors["day"][0]
    northwind.refresh_from_db()
    assert northwind.answer_by is None


def test_waiving_several_partners_requires_one_reason(
    operator: Client, announced: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    assert together(operator, announced, "waive", northwind, fabrikam, sure="1").status_code == 422
    assert together(operator, announced, "waive", northwind, fabrikam, sure="1", reason="Pilot").status_code == 302
    assert set(announced.participants.values_list("waived_reason", flat=True)) == {"Pilot"}
    assert Entry.objects.filter(verb="participant.waived", reason="Pilot").count() == 2
    assert "Nothing is awaited from Northwind any more." in page_text(together(operator, announced, "waive", northwind))


def test_a_selection_leads_to_announcing_and_to_printing(
    operator: Client, announced: Rotation, northwind: Participant
) -> None:
    shown = page_text(together(operator, announced, "announce", northwind))
    assert "Send 1 mail to 1 partner" in shown
    shown = page_text(together(operator, announced, "print", northwind))
    assert "1 of them here" in shown
    assert "Fabrikam" not in shown.partition("<table")[2]
    assert Letter.objects.count() == 2


def test_no_selection_and_an_unknown_action_do_nothing(operator: Client, announced: Rotation) -> None:
    response = together(operator, announced, "nudge")
    assert response["Location"] == f"{announced.get_absolute_url()}#partners"
    assert "Tick the partners first." in page_text(get_page(operator, "rotation-detail", announced.uid))
    assert together(operator, announced, "dance").status_code == 404


def test_a_partner_removed_meanwhile_is_reported(operator: Client, announced: Rotation, northwind: Participant) -> None:
    Participant.objects.filter(pk=northwind.pk).update(removed_reason="Ends in May")
    assert together(operator, announced, "waive", northwind, sure="1", reason="x").status_code == 302
    northwind.refresh_from_db()
    assert northwind.waived_reason == ""


@pytest.mark.parametrize("act", ["announce", "nudge", "extend", "waive", "print"])
@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_only_operators_run_bulk_actions(role: str, act: str, announced: Rotation, northwind: Participant) -> None:
    client = log_in(make_person(f"a {role}", role))
    assert together(client, announced, act, northwind, sure="1", reason="x").status_code == 403
    shown = page_text(get_page(client, "rotation-detail", announced.uid))
    assert "With those ticked" not in shown
    assert 'name="partner"' not in shown
    assert get_page(client, "rotation-print", announced.uid).status_code == 200


def test_the_print_page_has_no_controls(operator: Client, announced: Rotation) -> None:
    shown = page_text(get_page(operator, "rotation-print", announced.uid))
    main = shown.partition("<main")[2]
    assert "css/print" in shown
    assert pki.format_fingerprint(announced.new.sha256).replace(":", ":<wbr>") in main  # type: ignore[union-attr]
    assert "0 of 2 ready, 2 told." in main
    assert not re.search(r"<button|<input|<form", main)
