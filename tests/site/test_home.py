from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs import pki
from as2certs.audit.recording import Actor
from as2certs.mail.models import Message
from as2certs.site import active_rotations, calendar_year, coverage, views
from identities.capabilities import Support
from identities.certificates.single_import import stage_certificate
from identities.models import AS2System, Identity, IdentityCertificate, IdentityService
from identities.open_tasks import OpenTask
from partners.models import Contact, Partner, PartnerCertificate, PartnerService, Partnership
from rotations.exchange import responses
from rotations.execution import confirmations
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import approval, drafts
from rotations.models import Letter, Participant, Rotation
from rotations.notifications.expiry import OURS, ending_by
from tests.capabilities import keeps_both
from tests.certificates import make_pair
from tests.mail.messages import make_message
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft, partner_certificate, window

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

DAY = timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    def set_to(now: datetime) -> None:
        monkeypatch.setattr(views, "database_now", lambda: now)

    set_to(NOW)
    return set_to


@pytest.fixture
def company() -> Company:
    made = make_company()
    for partner in made.partners:
        partner_certificate(partner, by=made.by, now=NOW, ends=NOW + 300 * DAY)
    return made


def needs_at(now: datetime) -> list[OpenTask]:
    return coverage.list_open_tasks(
        coverage.get_coverage(now), active_rotations.get_active_rotations(now), now=now, zone="UTC"
    )


def page(client: Client) -> str:
    answer = client.get(reverse("home"))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_page_shows_until_when_everything_is_covered(company: Company) -> None:
    assert coverage.get_coverage(NOW).until == company.old.not_after
    assert coverage.get_coverage(NOW).lapsed == ()


@pytest.mark.parametrize("days", [29, 30, 31, 59, 61, 399])
def test_the_first_end_is_found_near_and_far(days: int) -> None:
    made = make_company()
    partner_certificate(made.partners[0], by=made.by, now=NOW, ends=made.old.not_after + 30 * DAY)
    at = made.old.not_after - days * DAY
    assert coverage.get_coverage(at).until == made.old.not_after
    assert coverage.get_coverage(made.old.not_after - 401 * DAY).until is None


def test_both_sides_are_queried_at_once() -> None:
    company = make_company()
    partner_certificate(company.partners[0], by=company.by, now=NOW, ends=company.old.not_after - DAY)
    at = company.old.not_after - 2 * DAY
    with CaptureQueriesContext(connection) as asked:
        found = coverage.get_coverage(at)
    assert len(asked) == 2
    assert [(gap.kind.name, gap.holder_name) for gap in found.gaps] == [
        ("partner", company.partners[0].name),
        ("identity", company.identity.name),
    ]


@pytest.mark.on_postgres
def test_the_first_ends_are_found_by_an_index(company: Company) -> None:
    for rows in (
        ending_by(OURS, company.old.not_after),
        calendar_year._services_in_use("identity", IdentityService.objects),
    ):
        assert {row.certificate_id for row in rows} == {company.old.pk}
        if connection.vendor == "sqlite":  # PostgreSQL's plan depends on how much there is
            assert "SCAN identities_identityservice" not in rows.explain()


def test_a_rotation_in_time_moves_the_end_of_coverage_to_the_next_certificate(company: Company) -> None:
    rotation = make_draft(company, starts=NOW + 5 * DAY)
    assert coverage.get_coverage(NOW).until == company.old.not_after
    approval.approve(rotation, by=company.approver, now=NOW)
    assert coverage.get_coverage(NOW).until == NOW + 300 * DAY


def test_without_an_end_within_the_year_coverage_is_longer() -> None:
    assert coverage.get_coverage(NOW).until is None


def test_what_has_expired_is_named(company: Company) -> None:
    after = company.old.not_after + timedelta(seconds=1)
    assert coverage.get_coverage(after).lapsed == ("ACME",)
    assert coverage.get_coverage(company.old.not_after).lapsed == ()


def test_a_test_station_does_not_count_for_production(company: Company) -> None:
    trial = Partner.objects.create(name="Trial", as2_id="TRIAL", environment="test")
    partner_certificate(trial, by=company.by, now=NOW, ends=NOW + DAY)
    assert coverage.get_coverage(NOW).until == company.old.not_after
    assert any("Trial" in need.text for need in needs_at(NOW))


def test_a_certificate_without_a_rotation_is_an_open_task_30_days_before_its_end(company: Company) -> None:
    end = company.old.not_after
    assert [n.text for n in needs_at(end - 30 * DAY)] == ["ACME sign + decrypt expires in 30 days, no rotation"]
    assert needs_at(end - 30 * DAY - timedelta(seconds=1)) == []


def test_the_button_starts_the_rotation_of_that_certificate(company: Company) -> None:
    (need,) = needs_at(NOW)
    assert need.label == "Start rotation"
    assert need.url.startswith(reverse("rotation-create"))
    assert str(company.identity.uid) in need.url
    assert str(company.old.uid) in need.url


def test_an_open_task_is_urgent_in_the_last_week(company: Company) -> None:
    end = company.old.not_after
    assert needs_at(end - 8 * DAY)[0].meaning == "soon"
    assert needs_at(end - 7 * DAY)[0].meaning == "urgent"


def test_a_draft_is_listed_once_with_the_end_of_its_certificate(company: Company) -> None:
    make_draft(company, starts=NOW + 5 * DAY)
    assert [n.text for n in needs_at(NOW)] == ["ACME sign + decrypt expires in 20 days, its rotation is a draft"]


def lines_at(now: datetime) -> list[str]:
    """Return what home says about rotations, without their names."""
    return [n.text.removeprefix("ACME: sign + decrypt: ") for n in needs_at(now) if n.text.startswith("ACME: ")]


@pytest.fixture
def exchanging(company: Company) -> Rotation:
    """Return a rotation with four partners that were informed, whose window starts in five days, on a Saturday."""
    for name in ("Contoso", "Litware"):
        partner = Partner.objects.create(name=name, as2_id=name.upper(), **keeps_both(Support.YES))
        Partnership.objects.create(identity=company.identity, partner=partner)
        partner_certificate(partner, by=company.by, now=NOW, ends=NOW + 300 * DAY)
    rotation = approval.approve(make_draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    rotation.steps.filter(act__in=("stage", "announce")).update(state="done", done_at=NOW)
    rotation.steps.filter(act="install").update(blocked=False)
    rotation.participants.update(announced_at=NOW)
    return rotation


def participant_of(rotation: Rotation, name: str) -> Participant:
    return rotation.participants.get(partner__name=name)


#: The deadline for answers: two working days before the window.
DEADLINE = NOW + 3 * DAY


def test_silent_partners_are_our_task_from_the_deadline_for_their_answers_on(exchanging: Rotation) -> None:
    assert lines_at(DEADLINE - timedelta(seconds=1)) == []
    assert lines_at(DEADLINE) == ["4 have not answered"]
    for name in ("Contoso", "Litware"):
        exchanging.steps.filter(participant__partner__name=name, act="install").update(state="done")
    assert lines_at(DEADLINE) == ["Fabrikam and Northwind have not answered"]


def test_more_time_and_an_escalation_move_the_moment_at_which_silence_is_our_task(exchanging: Rotation) -> None:
    exchanging.participants.update(answer_by=DEADLINE + DAY, extended_at=NOW)
    assert lines_at(DEADLINE) == []
    exchanging.participants.filter(partner__name="Northwind").update(escalated_at=NOW)
    assert lines_at(DEADLINE) == ["Northwind has not answered, 3 have not answered yet"]


def block(rotation: Rotation, company: Company, name: str, how: str) -> None:
    """Let a partner block its rotation."""
    participant = participant_of(rotation, name)
    match how:
        case "declined":
            responses.decline(participant, reason="Closed", by=company.by, now=NOW)
        case "another time":
            other = window(NOW + 6 * DAY)
            responses.propose_window(participant, other, note="", by=company.by, now=NOW)
        case "unreachable":
            contact = Contact.objects.create(partner=participant.partner, name="Nora", email="nora@northwind.example")
            context = LetterContext.of(participant, now=NOW)
            send_letters(context, Letter.Kind.ANNOUNCEMENT, [contact], by=company.by)
            Message.objects.update(bounced_at=NOW)
        case "went back":
            Rotation.objects.filter(pk=rotation.pk).update(state="under_way")
            rotation.steps.filter(act="install").update(state="done")
            Participant.objects.filter(pk=participant.pk).update(taken_back_at=NOW)
        case "does not work" | "uses the old one" | "has not switched":
            Rotation.objects.filter(pk=rotation.pk).update(
                state="applied", window_start=NOW - 2 * DAY, window_end=NOW - DAY
            )
            rotation.steps.filter(act="install").update(state="done")
            at = {"works": False} if how == "does not work" else {"straggling_at": NOW}
            if how == "has not switched":
                theirs = rotation.steps.filter(participant=participant, act="partner_cut_over")
                theirs.update(blocked=False, latest_at=NOW)
            else:
                Participant.objects.filter(pk=participant.pk).update(**at)


@pytest.mark.parametrize(
    ("how", "said", "label", "meaning"),
    [
        ("declined", "Northwind declined, 3 have not answered yet", "Find another way", "urgent"),
        (
            "another time",
            "Northwind proposes another time, 3 have not answered yet",
            "Decide on the time",
            "needs_you",
        ),
        (
            "unreachable",
            "Northwind can’t be reached by mail, 3 have not answered yet",
            "See whom to call",
            "urgent",
        ),
        ("does not work", "Northwind reports that it does not work", "Find out what fails", "urgent"),
        ("uses the old one", "Northwind still uses the old certificate", "See whom to call", "urgent"),
        ("has not switched", "Northwind has not switched", "See whom to call", "needs_you"),
        ("went back", "Northwind went back and waits for another moment", "Choose a moment", "needs_you"),
    ],
)
def test_a_partner_that_blocks_a_rotation_is_named_with_the_next_action(
    exchanging: Rotation, company: Company, how: str, said: str, label: str, meaning: str
) -> None:
    block(exchanging, company, "Northwind", how)
    assert lines_at(NOW) == [said]
    (need,) = [n for n in needs_at(NOW) if n.text.startswith("ACME: ")]
    url = reverse("participant-detail", args=[participant_of(exchanging, "Northwind").uid])
    assert (need.label, need.meaning, need.url) == (label, meaning, url)


@pytest.mark.on_postgres
def test_a_rotation_has_one_line_whatever_blocks_it(exchanging: Rotation, company: Company) -> None:
    block(exchanging, company, "Northwind", "another time")
    block(exchanging, company, "Fabrikam", "declined")
    assert lines_at(NOW) == ["Fabrikam declined, Northwind proposes another time, 2 have not answered yet"]
    assert lines_at(DEADLINE) == [
        "Fabrikam declined, Northwind proposes another time, Contoso and Litware have not answered"
    ]
    exchanging.steps.filter(act="stage").update(state="failed")
    (line,) = lines_at(NOW)
    assert line.startswith("a step failed, Fabrikam declined, ")


def test_a_step_of_ours_that_holds_partners_up_is_named(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    assert lines_at(NOW) == []  # the application loads the certificate by itself
    stage = rotation.steps.get(act="stage")
    rotation.steps.filter(pk=stage.pk).update(automatic=False)
    assert lines_at(NOW) == [f"“{stage.title}” is still to be done, and 2 partners wait for it"]
    rotation.steps.filter(pk=stage.pk).update(state="done")
    rotation.steps.filter(act="announce").update(blocked=False)
    assert lines_at(NOW) == ["2 partners are not told yet"]
    (need,) = [n for n in needs_at(NOW) if n.text.startswith("ACME: ")]
    assert (need.label, need.url) == ("Announce it", reverse("rotation-announce", args=[rotation.uid]))


def test_a_step_of_ours_at_the_window_is_named_once_it_may_be_done(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    rotation.steps.update(state="done", done_at=NOW)
    Rotation.objects.update(state="scheduled")
    may = NOW + 5 * DAY - timedelta(hours=1)
    title, late = "Pause our outbound queue", {"earliest_at": may, "blocked": False}
    rotation.steps.create(act="hold", who="we", title=title, position=99, key="hold", state="waiting", **late)
    assert lines_at(may - timedelta(seconds=1)) == []
    assert lines_at(may) == ["“Pause our outbound queue” is still to be done"]
    assert needs_at(may)[0].meaning == "urgent"


def test_waived_partners_block_nothing(exchanging: Rotation, company: Company) -> None:
    for participant in exchanging.participants.all():
        confirmations.waive(participant, reason="They only receive", by=company.by, now=NOW)
    assert lines_at(DEADLINE) == []


def test_partners_that_confirmed_are_not_named(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    assert needs_at(NOW + 3 * DAY) == []
    (one,) = active_rotations.get_active_rotations(NOW)
    assert str(one.readiness) == "2 of 2 ready"


def test_a_window_that_is_over_without_the_change_is_urgent(company: Company) -> None:
    rotation = approval.approve(make_draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    assert rotation.window_end is not None
    texts = [n.text for n in needs_at(rotation.window_end) if n.meaning == "urgent"]
    assert "ACME: sign + decrypt: its window is over, and it is not applied" in texts


def test_stations_without_a_certificate_and_systems_that_fail_their_check_are_listed() -> None:
    Identity.objects.create(name="New", as2_id="NEW")
    AS2System.objects.create(name="Gateway", check_ok=False)
    assert [n.text for n in needs_at(NOW)] == [
        "New has no certificate yet",
        "Gateway did not pass its last check",
    ]


@pytest.mark.parametrize(
    ("days", "when"), [(0, "valid from 2026-12-03"), (20, "valid until 2027-11-23")], ids=["before", "since"]
)
@pytest.mark.parametrize("side", ["identity", "partner"])
def test_a_stored_certificate_is_an_open_task_until_a_rotation_puts_it_into_service(
    side: str, days: int, when: str
) -> None:
    model = Identity if side == "identity" else Partner
    station = model.objects.create(name="New", as2_id="NEW")
    new = stage(station)
    (task,) = needs_at(NOW + days * DAY)
    assert task.text.startswith(f"New: {new.short_name} is stored and not in use: put it into service (")
    assert when in task.text
    assert task.url.startswith(f"{reverse('rotation-create')}?{side}={station.uid}&new={new.uid}&roles=")
    spec = drafts.DraftSpec(roles=station.ROLES, old=None, new=new)
    drafts.create_draft(station, spec, by=Actor.runner(), now=NOW)
    assert [task.text for task in needs_at(NOW) if "stored" in task.text] == []


def stage(station: Identity | Partner) -> IdentityCertificate | PartnerCertificate:
    """Store a certificate that is valid in ten days."""
    leaf, key = make_pair("NEXT", not_before=NOW + 10 * DAY, not_after=NOW + 365 * DAY)
    ours = isinstance(station, Identity)
    material = pki.Material(leaf=leaf, chain=(), key=key if ours else None, container="pem")
    result = stage_certificate(station, material, roles=station.ROLES, by=Actor.runner(), now=NOW)
    assert (result.assigned, result.waiting) == ((), station.ROLES)
    certificate: IdentityCertificate | PartnerCertificate = result.certificate
    return certificate


def test_stuck_mail_is_urgent_and_linked() -> None:
    make_message(created_at=NOW - timedelta(minutes=16))
    make_message("lee@example.com", created_at=NOW - timedelta(minutes=14))
    make_message("gone@example.com", created_at=NOW, state="failed")
    (need,) = needs_at(NOW)
    assert (need.meaning, need.text) == ("urgent", "2 mails have not been sent")
    assert need.url == reverse("mail-list") + "?state=stuck"


def test_an_archived_station_has_no_open_tasks(company: Company) -> None:
    Identity.objects.update(archived_at=NOW)
    assert needs_at(NOW) == []
    assert coverage.get_coverage(NOW).until == NOW + 300 * DAY


def test_the_picture_has_a_row_per_station_ordered_by_end(company: Company) -> None:
    picture = calendar_year.build_year(active_rotations.get_active_rotations(NOW), now=NOW, zone="UTC")
    assert [row.name for row in picture.rows] == ["ACME", "Fabrikam", "Northwind"]
    assert len(picture.rows[0].ends) == 1  # one certificate in two roles is one mark
    assert picture.today < picture.rows[0].ends[0].x < picture.rows[1].ends[0].x


def test_the_picture_shows_the_window(company: Company) -> None:
    make_draft(company, starts=NOW + 5 * DAY)
    picture = calendar_year.build_year(active_rotations.get_active_rotations(NOW), now=NOW, zone="UTC")
    assert picture.today < picture.rows[0].windows[0].x < picture.rows[0].ends[0].x


def test_the_page_starts_with_the_summary(company: Company, clock: object) -> None:
    text = page(log_in(make_person("vera", "viewer")))
    assert "Covered until <time" in text
    assert "13 December 2026</time>. 1 thing needs you." in text


def test_the_kinds_of_open_tasks_are_found_by_one_query(company: Company, clock: object) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert coverage._present_kinds(NOW) == []
    assert len(asked) == 1
    Partner.objects.create(name="Fourth Coffee", as2_id="FOURTH")
    assert needs_at(NOW)[0].text == "Fourth Coffee has no certificate yet"


def test_the_number_of_queries_is_constant(company: Company, clock: object) -> None:
    client = log_in(make_person("vera", "viewer"))
    approval.approve(make_draft(company, starts=NOW + 2 * DAY), by=company.approver, now=NOW)
    with CaptureQueriesContext(connection) as few:
        page(client)
    for number in range(30):
        partner = Partner.objects.create(name=f"Shop {number}", as2_id=f"SHOP-{number}")
        partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=5 + number))
    with CaptureQueriesContext(connection) as many:
        text = page(client)
    assert len(many) <= len(few) <= 15
    assert text.count("Start rotation") <= coverage.MAX_PER_KIND


def test_the_number_of_queries_does_not_depend_on_how_many_partners_block_how_many_rotations(
    exchanging: Rotation, company: Company, clock: object
) -> None:
    client = log_in(make_person("vera", "viewer"))
    block(exchanging, company, "Northwind", "declined")
    Partner.objects.create(name="No certificate", as2_id="NONE")  # an open task of another kind, as those below are
    with CaptureQueriesContext(connection) as few:
        assert "Northwind declined" in page(client)
    assert len(few) <= 17
    like = participant_of(exchanging, "Northwind")
    for number in range(5):
        rotation = Rotation.objects.get(pk=exchanging.pk)
        rotation.pk, rotation.uid = None, uuid.uuid4()
        rotation.save()
        partners = Partner.objects.bulk_create(
            Partner(name=f"P{number}-{one}", as2_id=f"P{number}-{one}") for one in range(20)
        )
        for partner in partners:
            like.pk, like.uid, like.partner, like.rotation = None, uuid.uuid4(), partner, rotation
            like.save()
    with CaptureQueriesContext(connection) as many:
        assert page(client).count("and 16 more declined") == 5
    assert len(many) == len(few)


def test_home_with_three_blocked_rotations_and_50_partners_takes_15_queries(
    exchanging: Rotation, company: Company, clock: object
) -> None:
    client = log_in(make_person("vera", "viewer"))
    block(exchanging, company, "Northwind", "declined")
    like = participant_of(exchanging, "Northwind")
    certificate = partner_certificate(company.partners[0], by=company.by, now=NOW, ends=NOW + timedelta(days=300))
    services = list(PartnerService.objects.filter(certificate=certificate))
    partners = Partner.objects.bulk_create(Partner(name=f"P{one}", as2_id=f"P{one}") for one in range(50))
    for partner in partners:
        certificate.pk, certificate.uid, certificate.partner, certificate._state.adding = (
            None,
            uuid.uuid4(),
            partner,
            True,
        )
        certificate.save()
        for service in services:
            service.pk, service.partner, service.certificate = None, partner, certificate
        PartnerService.objects.bulk_create(services)
    for _ in range(2):
        rotation = Rotation.objects.get(pk=exchanging.pk)
        rotation.pk, rotation.uid = None, uuid.uuid4()
        rotation.save()
        Participant.objects.bulk_create(
            Participant(partner=one, rotation=rotation, declined_at=like.declined_at, declined_reason="No")
            for one in partners
        )
    with CaptureQueriesContext(connection) as asked:
        text = page(client)
    assert text.count("and 46 more declined") == 2
    assert "Northwind declined" in text
    assert len(asked) <= 15


def test_viewers_get_no_buttons_for_changes(company: Company, clock: object) -> None:
    assert "Start rotation" not in page(log_in(make_person("vera", "viewer")))
    assert "Start rotation" in page(log_in(make_person("olga", "operator")))


def test_users_without_permissions_see_nothing(company: Company, clock: object) -> None:
    assert "ACME" not in page(log_in(make_person("nobody")))


def test_an_empty_installation_shows_the_first_steps_and_offers_the_example() -> None:
    text = page(log_in(make_person("anna", "administrator")))
    assert text.count("is-next") == 1
    assert "Create an identity" in text
    assert "Load example data" in text
    assert "Load example data" not in page(log_in(make_person("olga", "operator")))


def test_steps_that_are_done_are_ticked_and_the_list_goes_with_the_first_rotation(
    company: Company, clock: object
) -> None:
    client = log_in(make_person("anna", "administrator"))
    text = page(client)
    assert text.count("is-done") == 4
    assert "Load example data" not in text
    make_draft(company, starts=NOW + 5 * DAY)
    assert "first-steps" not in page(client)


def test_the_example_data_is_loaded_once() -> None:
    client = log_in(make_person("anna", "administrator"))
    assert client.post(reverse("demo-load")).status_code == 302
    stations = Identity.objects.count()
    assert stations == 4
    assert Rotation.objects.exists()
    answer = client.post(reverse("demo-load"), follow=True)
    assert "There are identities or partners already" in answer.content.decode()
    assert Identity.objects.count() == stations


def test_a_step_has_a_button_once_what_it_needs_is_there() -> None:
    client = log_in(make_person("anna", "administrator"))
    text = page(client)
    assert "Create an identity</a>" in text
    assert "Upload a certificate</a>" not in text
    assert "Set up a rotation</a>" not in text
    identity = Identity.objects.create(name="ACME", as2_id="ACME")
    text = page(client)
    assert f'href="{reverse("identity-upload", args=[identity.uid])}"' in text
    assert "Set up a rotation</a>" not in text


def test_without_any_certificate_nothing_is_called_covered() -> None:
    Identity.objects.create(name="ACME", as2_id="ACME")
    found = page(log_in(make_person("olivia", "operator")))
    assert "No certificate is in use yet." in found
    assert "Covered" not in found
