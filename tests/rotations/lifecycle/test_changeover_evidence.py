"""Evidence from partners' messages, and partners without evidence."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from partners.models import Contact
from rotations.errors import ActionRefused
from rotations.execution import stored_plan
from rotations.execution.preconditions import startable_steps
from rotations.lifecycle import approval, step_actions
from rotations.lifecycle.evidence.changeover import (
    WARNING_PERIOD,
    ObservedMessage,
    record_sighting,
    warn_and_release,
)
from rotations.models import Letter, Participant, Rotation, Sighting
from tests.rotations.company import NOW, Company, confirm_all, make_company
from tests.rotations.pages import STARTS, get_page, make_drafted, page_text

pytestmark = pytest.mark.django_db

ENDED = STARTS + timedelta(hours=1)
GRACE_OVER = ENDED + timedelta(days=14)


@pytest.fixture
def company(db: None) -> Company:
    """A company whose system decrypts with both: partners may encrypt to the new certificate at any time."""
    company = make_company()
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Nora", email=f"nora@{partner.name.lower()}.example")
    return company


@pytest.fixture
def made(company: Company) -> Rotation:
    """An applied rotation in which only the partners' cut-overs are open."""
    rotation = approval.approve(make_drafted(company), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act__in=("announce", "partner_cut_over")).update(blocked=False)
    confirm_all(rotation, company)
    rotation.steps.filter(act__in=("cut_over", "test", "partner_retire")).update(state="done", done_at=STARTS)
    rotation.participants.update(announced_at=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied", applied_at=STARTS)
    rotation.refresh_from_db()
    return rotation


@pytest.fixture
def northwind(made: Rotation) -> Participant:
    return made.participants.select_related("partner").get(partner__name="Northwind")


def seen(
    company: Company, participant: Participant, which: str, at: datetime, *, now: datetime | None = None
) -> Sighting:
    certificate = company.new if which == "new" else company.old
    return record_sighting(
        participant.partner,
        ObservedMessage(use=Sighting.Use.ENCRYPTED, serial=f"{int(certificate.serial):x}", at=at),
        by=company.by,
        now=now or at,
    )


def switched(participant: Participant) -> str:
    return participant.steps.get(act="partner_cut_over").state


def straggles(participant: Participant) -> datetime | None:
    participant.refresh_from_db()
    return participant.straggling_at


def alarms() -> list[str]:
    return list(Message.objects.filter(kind="partner_response").order_by("id").values_list("subject", flat=True))


def test_a_message_encrypted_to_the_new_certificate_completes_the_partners_cut_over(
    company: Company, northwind: Participant
) -> None:
    sighting = seen(company, northwind, "new", ENDED)
    assert (sighting.verdict, sighting.participant) == ("new", northwind)
    assert switched(northwind) == "done"
    note = northwind.steps.get(act="partner_cut_over").note
    assert note.startswith("a message of Fri 4 Dec 2026, 05:00 UTC used it (serial ")
    northwind.refresh_from_db()
    assert northwind.migrated_at == ENDED


def test_a_signed_message_is_no_evidence_about_encryption(company: Company, northwind: Participant) -> None:
    sighting = record_sighting(
        northwind.partner,
        ObservedMessage(use="signed", serial=company.new.serial, at=ENDED),
        by=company.by,
        now=ENDED,
    )
    assert (sighting.verdict, sighting.participant) == ("unknown", None)
    assert switched(northwind) == "waiting"


@pytest.mark.parametrize(("at", "late"), [(ENDED - timedelta(seconds=1), False), (ENDED, True)])
def test_the_old_certificate_raises_an_alarm_after_the_window(
    company: Company, northwind: Participant, at: datetime, late: bool
) -> None:
    seen(company, northwind, "old", at)
    northwind.refresh_from_db()
    assert (northwind.straggling_at is not None) is late
    assert alarms() == (["ACME: Northwind still uses the old certificate."] if late else [])


def test_the_alarm_is_raised_once_and_ends_with_the_new_certificate(company: Company, northwind: Participant) -> None:
    seen(company, northwind, "old", ENDED)
    seen(company, northwind, "old", ENDED + timedelta(hours=1))
    assert len(alarms()) == 1
    assert straggles(northwind) == ENDED + timedelta(hours=1)
    seen(company, northwind, "new", ENDED + timedelta(hours=2))
    assert straggles(northwind) is None
    # An earlier message that is recorded later changes nothing.
    seen(company, northwind, "old", ENDED + timedelta(hours=1), now=ENDED + timedelta(hours=3))
    assert straggles(northwind) is None


@pytest.mark.parametrize("spelled", ["{:d}", "0x{:x}", "{:X}"])
def test_a_serial_number_is_recognized_in_every_notation(
    company: Company, northwind: Participant, spelled: str
) -> None:
    serial = spelled.format(int(company.new.serial))
    found = record_sighting(
        northwind.partner, ObservedMessage(use="encrypted", serial=serial, at=ENDED), by=company.by, now=ENDED
    )
    assert found.verdict == "new"


def test_impossible_serial_numbers_and_future_messages_are_refused(company: Company, northwind: Participant) -> None:
    with pytest.raises(ActionRefused, match="is no serial number"):
        record_sighting(
            northwind.partner,
            ObservedMessage(use="encrypted", serial="hello", at=NOW),
            by=company.by,
            now=NOW,
        )
    with pytest.raises(ActionRefused, match="from the future"):
        seen(company, northwind, "new", NOW + timedelta(hours=1), now=NOW)
    assert not Sighting.objects.exists()


def test_each_sighting_is_in_the_trail(company: Company, northwind: Participant) -> None:
    seen(company, northwind, "new", ENDED)
    entry = Entry.objects.get(verb="partner.seen")
    assert entry.new == {"what": "encrypted by them to the new one", "at": ENDED.isoformat()}
    assert entry.actor_name == "Alice"


# After the grace period.


def test_partners_without_evidence_are_warned_after_the_grace_period(company: Company, made: Rotation) -> None:
    assert warn_and_release(GRACE_OVER - timedelta(seconds=1)) == 0
    assert warn_and_release(GRACE_OVER) == 2
    letter = Letter.objects.filter(kind=Letter.Kind.WARNED).first()
    assert letter is not None
    assert letter.message.text.startswith("The old certificate goes in a week")
    assert alarms() == [
        "ACME: Nothing shows that Fabrikam uses the new certificate.",
        "ACME: Nothing shows that Northwind uses the new certificate.",
    ]
    assert warn_and_release(GRACE_OVER + WARNING_PERIOD - timedelta(seconds=1)) == 0


def test_open_steps_are_skipped_a_week_after_the_warning(company: Company, made: Rotation) -> None:
    warn_and_release(GRACE_OVER)
    assert made.steps.get(act="retire").blocked
    assert warn_and_release(GRACE_OVER + WARNING_PERIOD) == 2
    assert not made.steps.get(act="retire").blocked
    step = made.steps.filter(act="partner_cut_over")[0]
    assert (step.state, step.note) == ("skipped", "warned on 18 Dec 2026, and nothing was heard")


def test_a_partner_seen_with_the_old_certificate_is_left_to_an_operator(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    warn_and_release(GRACE_OVER)
    seen(company, northwind, "old", GRACE_OVER + timedelta(days=1))
    warn_and_release(GRACE_OVER + WARNING_PERIOD)
    assert switched(northwind) == "waiting"
    assert made.steps.get(act="retire").blocked


def test_a_partner_that_has_moved_is_not_warned_of_a_test_that_we_have_not_recorded(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    made.steps.filter(act="test").update(state="waiting", blocked=False, evidence=["test_message"])
    seen(company, northwind, "new", ENDED)
    assert warn_and_release(GRACE_OVER) == 1  # Fabrikam, of which nothing was seen
    assert warn_and_release(GRACE_OVER + timedelta(days=1)) == 0
    warned = Letter.objects.filter(kind=Letter.Kind.WARNED)
    assert list(warned.values_list("participant__partner__name", flat=True)) == ["Fabrikam"]
    mail = Message.objects.get(kind="own_step_open")
    assert mail.to_address == "alice@example.com"
    assert "Northwind uses the new certificate: a message of Thu 3 Dec 2026, 23:00 CST" in " ".join(mail.text.split())
    assert "please switch" not in mail.text


def test_a_partner_that_said_that_it_switched_is_not_warned_of_a_test_that_we_have_not_recorded(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    made.steps.filter(act="test").update(state="waiting", blocked=False, evidence=["test_message"])
    warn_and_release(GRACE_OVER - timedelta(days=1))
    northwind.steps.filter(act="partner_cut_over").update(state="done", done_at=ENDED)
    assert warn_and_release(GRACE_OVER) == 1
    warned = Letter.objects.filter(kind=Letter.Kind.WARNED)
    assert list(warned.values_list("participant__partner__name", flat=True)) == ["Fabrikam"]
    text = " ".join(Message.objects.get(kind="own_step_open").text.split())
    assert "Northwind says that it uses the new certificate. Only the test of our own is not recorded" in text


def test_a_warning_does_not_leave_once_the_partner_has_said_that_it_switched(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    warn_and_release(GRACE_OVER)
    mail = Letter.objects.get(kind=Letter.Kind.WARNED, participant=northwind).message
    assert find_withdrawal(mail, now=GRACE_OVER) is None
    northwind.steps.filter(act="partner_cut_over").update(state="done", done_at=GRACE_OVER)
    assert find_withdrawal(mail, now=GRACE_OVER) is not None


@pytest.mark.parametrize("how", ["a message", "its word"])
def test_that_nothing_shows_the_new_certificate_is_not_mailed_once_something_has(
    company: Company, made: Rotation, northwind: Participant, how: str
) -> None:
    warn_and_release(GRACE_OVER)
    mail = Message.objects.get(kind="partner_response", subject__contains="Northwind")
    assert "The old certificate goes on 24 Dec 2026 unless you hold it." in " ".join(mail.text.split())
    assert find_withdrawal(mail, now=GRACE_OVER) is None
    if how == "a message":
        seen(company, northwind, "new", GRACE_OVER)
    else:
        northwind.steps.filter(act="partner_cut_over").update(state="done", done_at=GRACE_OVER)
    assert find_withdrawal(mail, now=GRACE_OVER) is not None


def test_the_alarm_of_the_old_certificate_is_not_mailed_once_the_partner_has_moved(
    company: Company, northwind: Participant
) -> None:
    seen(company, northwind, "old", ENDED)
    mail = Message.objects.get(kind="partner_response")
    assert find_withdrawal(mail, now=ENDED) is None
    seen(company, northwind, "new", ENDED + timedelta(hours=1))
    assert find_withdrawal(mail, now=ENDED + timedelta(hours=1)) is not None


def test_the_old_certificate_is_not_retired_by_itself_while_a_partner_still_uses_it(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    made.steps.exclude(act="retire").update(state="done", done_at=ENDED)
    made.steps.filter(act="retire").update(blocked=False, automatic=True, due_at=GRACE_OVER)
    seen(company, northwind, "old", ENDED + timedelta(days=1))
    assert not startable_steps(GRACE_OVER).exists()
    seen(company, northwind, "new", ENDED + timedelta(days=2))
    assert [step.act for step in startable_steps(GRACE_OVER)] == ["retire"]


def test_a_partner_that_has_gone_back_to_the_old_certificate_is_warned(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    made.steps.filter(act="test").update(state="waiting", blocked=False, evidence=["test_message"])
    seen(company, northwind, "new", ENDED)
    seen(company, northwind, "old", ENDED + timedelta(days=1))
    assert warn_and_release(GRACE_OVER) == 2


def test_what_the_product_says_is_not_shown_as_a_partners_words(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    warn_and_release(GRACE_OVER)
    seen(company, northwind, "old", GRACE_OVER + timedelta(days=1))
    mails = Message.objects.filter(kind="partner_response").order_by("id")
    assert len(mails) == 3
    for mail in mails:
        assert "In its words" not in mail.text + mail.html
        assert "Noticed" in mail.text
    assert "They were warned by mail." in " ".join(mails[0].text.split())
    assert "Call them before the old certificate is retired here." in " ".join(mails[2].text.split())


def test_evidence_after_the_warning_completes_the_step(
    company: Company, made: Rotation, northwind: Participant
) -> None:
    warn_and_release(GRACE_OVER)
    seen(company, northwind, "new", GRACE_OVER + timedelta(days=1))
    warn_and_release(GRACE_OVER + WARNING_PERIOD)
    assert switched(northwind) == "done"


# Late messages.


@pytest.mark.parametrize(("after", "possible"), [(timedelta(hours=47, minutes=59), False), (timedelta(hours=48), True)])
def test_the_old_certificate_is_not_retired_before_late_messages_have_drained(
    company: Company, made: Rotation, after: timedelta, possible: bool
) -> None:
    made.steps.filter(act="partner_cut_over").update(state="done")
    made.steps.filter(act="retire").update(blocked=False)
    step = made.steps.get(act="retire")
    if possible:
        step_actions.complete_step(step, note="", by=company.by, now=ENDED + after)
    else:
        with pytest.raises(ActionRefused, match="Late MDNs and retries may still use the old certificate"):
            step_actions.complete_step(step, note="", by=company.by, now=ENDED + after)
        step_actions.complete_step(step, note="Somebody removed it by mistake", by=company.by, now=ENDED + after)


def test_a_grace_period_shorter_than_the_drain_is_not_approved(company: Company) -> None:
    rotation = make_drafted(company)
    Rotation.objects.filter(pk=rotation.pk).update(grace_days=1)
    with pytest.raises(ActionRefused, match="keep the old certificate for at least 2 days after the window"):
        approval.approve(rotation, by=company.approver, now=NOW)
    assert stored_plan.drain_time([company.system]) == timedelta(hours=48)


# The page.


def test_an_operator_records_a_message(
    clock: datetime, company: Company, made: Rotation, northwind: Participant, operator: Client
) -> None:
    address = reverse("partner-seen", args=[northwind.partner.uid])
    sent = {
        "use": "encrypted",
        "serial": company.new.serial,
        "day": "2026-11-23",
        "time": "11:00",
        "note": "<id@x>",
    }
    answer = operator.post(address, sent)
    assert answer.status_code == 302
    assert answer["Location"] == made.get_absolute_url()
    assert switched(northwind) == "done"
    assert "Noted before" in page_text(get_page(operator, "partner-seen", northwind.partner.uid))


def test_a_viewer_cannot_record_a_message(
    clock: datetime, company: Company, northwind: Participant, viewer: Client
) -> None:
    assert get_page(viewer, "partner-seen", northwind.partner.uid).status_code == 403


def test_a_bad_serial_number_keeps_the_form_filled_in(
    clock: datetime, company: Company, northwind: Participant, operator: Client
) -> None:
    address = reverse("partner-seen", args=[northwind.partner.uid])
    sent = {"use": "encrypted", "serial": "zz", "day": "2026-11-23", "time": "11:00", "note": "kept"}
    answer = operator.post(address, sent)
    assert answer.status_code == 422
    assert "is no serial number" in page_text(answer)
    assert "kept" in page_text(answer)
