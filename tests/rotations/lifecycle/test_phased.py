"""Each partner when it is ready, until a last moment: answers, reminders, escalation, and what is left then."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Contact, Partner, Partnership
from rotations import reminders
from rotations.errors import ActionRefused, PlanError
from rotations.exchange import follow_up, responses, time_slots
from rotations.execution import confirmations
from rotations.letters import announcements
from rotations.lifecycle import approval, drafts, rescheduling
from rotations.models import AtEnd, Freeze, Letter, Participant, Rotation, Step
from rotations.notifications import mail_checks
from rotations.planning.states import RotationState, StepState
from rotations.planning.windows import Window
from rotations.web.portal import texts
from rotations.web.portal.page import PortalPage
from rotations.web.presenters.participant_detail import build_participant_detail
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.rotations.company import CHICAGO, NOW, Company, window
from tests.rotations.fake_clock import FakeClock
from tests.rotations.lifecycle.test_single_partner import per_partner_company

pytestmark = pytest.mark.django_db(transaction=True)

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LAST = NOW + 21 * DAY
NAMES = ["Contoso", "Fabrikam", "Initech", "Northwind", "Umbrella"]
SILENT = ["Initech", "Northwind", "Umbrella"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def company(tmp_path: Path, settings: LazySettings) -> Company:
    """A company with five partners, whose AS2 system signs per partner."""
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    company = per_partner_company(old_days=40)
    for name in sorted(set(NAMES) - {partner.name for partner in company.partners}):
        partner = Partner.objects.create(name=name, as2_id=name.upper(), **keeps_both("yes"), time_zone=CHICAGO)
        Partnership.objects.create(identity=company.identity, partner=partner)
        company.partners.append(partner)
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Dana", email=f"dana@{partner.name.lower()}.example")
    return company


def spec(company: Company, *, starts: datetime = NOW, last: datetime = LAST) -> drafts.DraftSpec:
    agreed = Window(starts, last, CHICAGO)
    return drafts.DraftSpec(
        roles=("sign", "decrypt"),
        old=company.old,
        new=company.new,
        window=agreed,
        at_end=AtEnd.PHASED,
        freeze_reason="The campaign goes on around the stocktaking.",
    )


def announced(company: Company, clock: FakeClock, *, starts: datetime = NOW, last: datetime = LAST) -> Rotation:
    """Return an approved change of which all partners were told."""
    rotation = drafts.create_draft(company.identity, spec(company, starts=starts, last=last), by=company.by, now=NOW)
    rotation = approval.approve(rotation, by=company.approver, now=clock.now)
    clock.apply_due()
    for name in NAMES:
        announcements.announce(part(rotation, name), by=company.by, now=clock.now)
    return rotation


def part(rotation: Rotation, name: str) -> Participant:
    return rotation.participants.select_related("partner", "rotation").get(partner__name=name)


def answer(rotation: Rotation, name: str, company: Company, *, now: datetime) -> None:
    assert rotation.new is not None
    confirmations.confirm_installation(
        part(rotation, name),
        confirmations.PartnerAnswer("Dana", by=company.by, now=now),
        fingerprint=pki.format_fingerprint(rotation.new.sha256),
    )


def ours(rotation: Rotation, name: str) -> Step:
    found: Step = rotation.steps.get(act="cut_over", participant__partner__name=name)
    return found


def run_until(clock: FakeClock, end: datetime, *, every: timedelta = 12 * HOUR) -> None:
    """Let the runner and the reminders work until a moment, this included."""
    while clock.now < end:
        clock.now = min(clock.now + every, end)
        clock.apply_due()
        reminders.run(clock.now)


def reminded() -> list[tuple[str, str]]:
    """Return the reminders so far: name of the reminder and of the partner."""
    rows = Letter.objects.filter(kind=Letter.Kind.NUDGE).order_by("at", "participant__partner__name")
    return list(rows.values_list("rung", "participant__partner__name"))


def mails(kind: str) -> list[Message]:
    return list(Message.objects.filter(kind=kind).order_by("id"))


def test_a_campaign_of_three_weeks(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    reminders.run(NOW + 5 * MINUTE)
    assert mails("silent") == []
    assert not rotation.participants.exclude(escalated_at=None).exists()

    # Two answer on different days; each is changed over for within a tick, whatever is left of the time.
    run_until(clock, NOW + 2 * DAY)
    answer(rotation, "Contoso", company, now=clock.now)
    assert (ours(rotation, "Contoso").state, ours(rotation, "Fabrikam").state) == (StepState.WAITING, StepState.WAITING)
    run_until(clock, clock.now + MINUTE, every=MINUTE)
    contoso = ours(rotation, "Contoso")
    assert (contoso.state, contoso.done_at, contoso.late) == (StepState.DONE, clock.now, False)
    assert not Rotation.objects.needing_attention(clock.now).exists()
    run_until(clock, NOW + 5 * DAY)
    answer(rotation, "Fabrikam", company, now=clock.now)
    run_until(clock, clock.now + MINUTE, every=MINUTE)
    assert ours(rotation, "Fabrikam").state == StepState.DONE
    rotation.refresh_from_db()
    assert rotation.state == RotationState.UNDER_WAY

    # The silent ones are reminded on the days that were set, inside the window too; nobody is escalated meanwhile.
    run_until(clock, LAST - DAY)
    assert Counter(reminded()) == Counter(
        (rung, name) for rung in ("after 7", "before 7", "before 3", "before 1") for name in SILENT
    )
    assert mails("silent") == []
    assert not Rotation.objects.needing_attention(clock.now).exists()

    # Our people are notified once the last reminder has gone unanswered, before the last moment.
    run_until(clock, LAST - 12 * HOUR - MINUTE)
    assert mails("silent") == []
    run_until(clock, LAST - 12 * HOUR)
    (escalation,) = mails("silent")
    assert "Initech, Northwind and Umbrella" in escalation.text
    assert "the time in which each partner changes when it is ready is over" in " ".join(escalation.text.split())
    assert set(rotation.participants.exclude(escalated_at=None).values_list("partner__name", flat=True)) == set(SILENT)

    # At the last moment a person takes over; the default and the old certificate wait.
    run_until(clock, LAST + HOUR, every=6 * HOUR)
    (missed,) = mails("needs_attention")
    text = " ".join(missed.text.split())
    assert "is over, and the change is not complete. Not ready by then: Initech, Northwind, Umbrella." in text
    assert Rotation.objects.needing_attention(clock.now).get() == rotation
    assert {ours(rotation, name).state for name in SILENT} == {StepState.WAITING}
    default = rotation.steps.get(act="cut_over", participant=None)
    assert (default.state, default.blocked) == (StepState.WAITING, True)
    assert rotation.steps.get(act="retire").state == StepState.WAITING
    assert {mail.kind for mail in Message.objects.all()} & {"window_soon", "not_started", "applied"} == set()
    assert company.old.not_after > clock.now

    # More time: the silent ones are told, and asked again; when all have changed, the default follows.
    later = Window(clock.now, LAST + 7 * DAY, CHICAGO)
    change = rescheduling.WindowChange(later, reason="Three are still silent.")
    rotation = rescheduling.postpone(rotation, change, by=company.by, now=clock.now)
    moved = Letter.objects.filter(kind=Letter.Kind.MOVED).values_list("participant__partner__name", "message__subject")
    assert sorted(name for name, _ in moved) == SILENT
    assert all("you can change to the new certificate at any time until Mon 21 Dec 2026" in text for _, text in moved)
    for name in SILENT:
        answer(rotation, name, company, now=clock.now)
    run_until(clock, clock.now + 3 * MINUTE, every=MINUTE)
    assert {ours(rotation, name).state for name in NAMES} == {StepState.DONE}
    assert rotation.steps.get(act="cut_over", participant=None).state == StepState.DONE
    rotation.refresh_from_db()
    assert rotation.state == RotationState.APPLIED
    assert rotation.steps.get(act="retire").earliest_at == LAST + 7 * DAY + timedelta(days=rotation.grace_days)


def test_nobody_is_changed_over_for_before_the_first_day(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock, starts=NOW + 3 * DAY)
    answer(rotation, "Contoso", company, now=NOW)
    run_until(clock, NOW + 3 * DAY - MINUTE)
    assert ours(rotation, "Contoso").state == StepState.WAITING
    run_until(clock, NOW + 3 * DAY)
    assert ours(rotation, "Contoso").state == StepState.DONE
    assert mails("window_soon") == []


def test_approved_days_after_the_draft_each_partner_is_changed_over_for_when_it_answers(
    company: Company, clock: FakeClock
) -> None:
    clock.now = NOW + 4 * DAY
    rotation = announced(company, clock)
    answer(rotation, "Contoso", company, now=clock.now)
    clock.apply_due()
    assert ours(rotation, "Contoso").state == StepState.DONE


def test_a_change_without_a_start_begins_with_its_approval(company: Company, clock: FakeClock) -> None:
    clock.now = NOW + 4 * DAY + timedelta(seconds=20)
    rotation = announced(company, clock)
    rotation.refresh_from_db()
    assert (rotation.window_start, rotation.window_end) == (NOW + 4 * DAY, LAST)
    assert ours(rotation, "Contoso").earliest_at == NOW + 4 * DAY
    assert rotation.window_local.startswith("2026-11-27 06:00")
    entry = Entry.objects.get(verb="rotation.approve")
    assert "2026-11-27 06:00" in entry.new["window"]


def test_a_change_that_begins_on_a_later_day_keeps_its_start_when_it_is_approved(
    company: Company, clock: FakeClock
) -> None:
    clock.now = NOW + DAY
    rotation = announced(company, clock, starts=NOW + 3 * DAY)
    rotation.refresh_from_db()
    assert rotation.window_start == NOW + 3 * DAY
    assert "window" not in Entry.objects.get(verb="rotation.approve").new


def test_owners_are_notified_a_day_before_the_last_moment_of_who_has_not_changed(
    company: Company, clock: FakeClock
) -> None:
    rotation = announced(company, clock)
    for name in NAMES[:2]:
        answer(rotation, name, company, now=clock.now)
    clock.apply_due()
    clock.apply_due()
    responses.decline(part(rotation, "Initech"), reason="A freeze.", by=company.by, now=NOW + HOUR)
    confirmations.waive(part(rotation, "Umbrella"), reason="It has no time.", by=company.by, now=NOW + HOUR)
    reminders.run(LAST - DAY - MINUTE)
    assert mails("last_moment") == []
    reminders.run(LAST - DAY)
    reminders.run(LAST - DAY + HOUR)
    (mail,) = mails("last_moment")
    assert mail.subject.startswith("ACME: the time for partners to change ends in 24 hours, Mon 14 Dec 2026")
    listed = "- Initech (declined)\n- Northwind (has not answered)\n- Umbrella (waived; we change for it just before)\n"
    assert f"Not changed yet:\n{listed}" in mail.text
    assert "Contoso" not in mail.text
    assert "nobody is switched by force" in " ".join(mail.html.split())
    assert mail_checks.find_withdrawal(mail, LAST - DAY) is None
    answer(rotation, "Northwind", company, now=LAST - DAY)
    withdrawal = mail_checks.find_withdrawal(mail, LAST - DAY)
    assert withdrawal is not None
    assert "Who has not changed" in withdrawal.reason


def test_nobody_is_notified_before_the_last_moment_when_all_have_changed(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    for name in NAMES:
        answer(rotation, name, company, now=clock.now)
    clock.apply_due()
    reminders.run(LAST - DAY)
    assert mails("last_moment") == []


def test_a_waived_partner_that_confirms_after_all_is_changed_over_for_at_once(
    company: Company, clock: FakeClock
) -> None:
    rotation = announced(company, clock)
    confirmations.waive(part(rotation, "Initech"), reason="It has no time.", by=company.by, now=NOW + HOUR)
    clock.now = NOW + 10 * DAY
    clock.apply_due()
    answer(rotation, "Initech", company, now=clock.now)
    clock.apply_due()
    assert (ours(rotation, "Initech").state, ours(rotation, "Initech").late) == (StepState.DONE, False)
    assert part(rotation, "Initech").waived_reason == ""
    entry = Entry.objects.filter(verb="participant.confirmed").latest("pk")
    assert entry.new["waiver withdrawn"] == "It has no time."


@pytest.mark.extended
def test_an_answer_after_the_last_moment_needs_a_person(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    run_until(clock, LAST + HOUR, every=DAY)
    answer(rotation, "Initech", company, now=clock.now)
    clock.apply_due()
    step = ours(rotation, "Initech")
    assert step.state == StepState.FAILED
    assert "The window ended" in step.error


@pytest.mark.extended
def test_a_waived_partner_is_changed_over_for_just_before_the_last_moment(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    confirmations.waive(part(rotation, "Initech"), reason="It has no time.", by=company.by, now=NOW + HOUR)
    run_until(clock, NOW + 10 * DAY, every=DAY)
    assert ours(rotation, "Initech").state == StepState.WAITING
    later = Window(clock.now, LAST + DAY, CHICAGO)
    change = rescheduling.WindowChange(later, reason="A day more.")
    rescheduling.postpone(rotation, change, by=company.by, now=clock.now)
    run_until(clock, LAST + DAY - 2 * MINUTE, every=DAY)
    assert ours(rotation, "Initech").state == StepState.WAITING
    run_until(clock, LAST + DAY - MINUTE, every=MINUTE)
    assert ours(rotation, "Initech").state == StepState.DONE


def test_the_old_certificate_has_to_outlast_the_last_moment(company: Company) -> None:
    last = company.old.not_after - DAY + MINUTE
    rotation = drafts.create_draft(company.identity, spec(company, last=last), by=company.by, now=NOW)
    with pytest.raises(ActionRefused, match="It has to be valid for at least 24 hours after that"):
        approval.approve(rotation, by=company.approver, now=NOW)


def test_partners_that_hold_one_are_refused_with_their_names(company: Company) -> None:
    Partner.objects.filter(name__in=("Initech", "Umbrella")).update(**keeps_both("unknown"))
    rotation = drafts.create_draft(company.identity, spec(company), by=company.by, now=NOW)
    with pytest.raises(PlanError, match="Initech, Umbrella can hold one only, or it is not known"):
        approval.approve(rotation, by=company.approver, now=NOW)


def test_there_is_no_time_to_propose_or_to_offer(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock, starts=NOW + 3 * DAY)
    with pytest.raises(ActionRefused, match="there is no time to choose"):
        responses.propose_window(
            part(rotation, "Contoso"), window(NOW + 5 * DAY), note="", by=company.by, now=NOW + HOUR
        )
    with pytest.raises(ActionRefused, match="there is no time to choose"):
        time_slots.offer_slots(rotation, [window(NOW + 5 * DAY)], by=company.by, now=NOW + HOUR)


def test_one_partner_can_get_a_moment_of_its_own(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    begins = NOW + 10 * DAY
    rescheduling.move_participant(
        part(rotation, "Initech"),
        rescheduling.WindowChange(window(begins), reason="its inventory"),
        by=company.by,
        now=NOW + HOUR,
    )
    answer(rotation, "Initech", company, now=NOW + 2 * HOUR)
    run_until(clock, begins - MINUTE, every=DAY)
    assert ours(rotation, "Initech").state == StepState.WAITING
    run_until(clock, begins)
    assert ours(rotation, "Initech").state == StepState.DONE
    assert part(rotation, "Initech").format_window("UTC").startswith("Thu 3 Dec 2026, 12:00")


def test_a_partner_can_say_no_after_others_have_changed(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    answer(rotation, "Contoso", company, now=NOW)
    clock.apply_due()
    responses.decline(part(rotation, "Initech"), reason="A freeze until January.", by=company.by, now=NOW + HOUR)
    assert part(rotation, "Initech").declined_at == NOW + HOUR
    with pytest.raises(ActionRefused, match="has been made already"):
        responses.decline(part(rotation, "Contoso"), reason="no", by=company.by, now=NOW + HOUR)


def test_more_time_to_answer_ends_at_the_last_moment(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    with pytest.raises(ActionRefused, match="The window ends Mon 14 Dec 2026, 06:00 CST: an answer is needed by then"):
        follow_up.extend_deadline(part(rotation, "Initech"), LAST + MINUTE, by=company.by, now=NOW + HOUR)
    follow_up.extend_deadline(part(rotation, "Initech"), LAST - DAY, by=company.by, now=NOW + HOUR)
    assert part(rotation, "Initech").answer_by == LAST - DAY


def freeze(days: int, *, partner: Partner | None = None) -> Freeze:
    """Freeze everything, or what concerns one partner, from today on for some days of Chicago's calendar."""
    first = NOW.date()
    last = first + timedelta(days=days - 1)
    return Freeze.objects.create(name="Stocktaking", first=first, last=last, zone=CHICAGO, partner=partner)


def switched(rotation: Rotation) -> list[str]:
    done = rotation.steps.filter(act="cut_over", state=StepState.DONE, participant__isnull=False)
    return sorted(done.values_list("participant__partner__name", flat=True))


def test_a_partner_that_answers_in_a_freeze_is_changed_over_for_after_it(company: Company, clock: FakeClock) -> None:
    freeze(2)
    over = datetime(2026, 11, 25, 6, 0, tzinfo=NOW.tzinfo)  # midnight in Chicago
    rotation = announced(company, clock)
    told = "We change nothing until Wed 25 Nov 2026, 00:00 CST"
    announcement = Message.objects.filter(kind="partner_announcement").first()
    assert announcement is not None
    assert f"{told}. If you have answered by then, we change for you after that." in " ".join(announcement.text.split())
    page = PortalPage.of(part(rotation, "Contoso"), now=clock.now)
    assert f"{told}. After that you can switch, until" in texts.headline(page).why
    answer(rotation, "Contoso", company, now=clock.now)
    page = PortalPage.of(part(rotation, "Contoso"), now=clock.now)
    assert f"{told}, and change for you after that." in f"{texts.headline(page)} {texts.installed_message(page)}"
    run_until(clock, over - MINUTE)
    assert switched(rotation) == []
    run_until(clock, over)
    assert switched(rotation) == ["Contoso"]


def test_a_freeze_of_one_partner_keeps_nobody_else_waiting(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    freeze(2, partner=part(rotation, "Contoso").partner)
    for name in ("Contoso", "Fabrikam"):
        answer(rotation, name, company, now=clock.now)
    run_until(clock, clock.now + HOUR)
    assert switched(rotation) == ["Fabrikam"]
    pages = {name: PortalPage.of(part(rotation, name), now=clock.now) for name in ("Contoso", "Northwind")}
    assert "We change nothing until" in str(texts.headline(pages["Contoso"]))
    assert "We change nothing until" not in str(texts.headline(pages["Northwind"]))


def test_our_people_read_who_waits_for_the_end_of_a_freeze(company: Company, clock: FakeClock) -> None:
    rotation = announced(company, clock)
    freeze(2, partner=part(rotation, "Contoso").partner)
    over = datetime(2026, 11, 25, 6, 0, tzinfo=NOW.tzinfo)  # midnight in Chicago

    def lead() -> str:
        return RotationDetail.of(rotation, user=company.alice, now=clock.now, zone="UTC").lead

    def frozen_until(name: str) -> datetime | None:
        return build_participant_detail(part(rotation, name), now=clock.now, zone="UTC").frozen_until

    assert "Because of a change freeze, Contoso waits until" in lead()
    assert {name: frozen_until(name) for name in ("Contoso", "Fabrikam")} == {"Contoso": over, "Fabrikam": None}
    for name in ("Contoso", "Fabrikam"):
        answer(rotation, name, company, now=clock.now)
    run_until(clock, over)
    assert switched(rotation) == ["Contoso", "Fabrikam"]
    assert "freeze" not in lead()
    assert frozen_until("Contoso") is None


def test_a_freeze_until_after_the_last_moment_promises_no_change(company: Company, clock: FakeClock) -> None:
    freeze(30)
    rotation = announced(company, clock)
    page = PortalPage.of(part(rotation, "Contoso"), now=clock.now)
    assert "After that you can switch" not in texts.headline(page).why
    assert "We write to you about another time." in texts.headline(page).why
    answer(rotation, "Contoso", company, now=clock.now)
    run_until(clock, clock.now + HOUR)
    assert switched(rotation) == []
    assert "and write to you about another time." in str(texts.headline(PortalPage.of(page.participant, now=clock.now)))
