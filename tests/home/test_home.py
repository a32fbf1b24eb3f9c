from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.home import coverage, running, twelve_months, views
from identities.attention import Need
from identities.models import AS2System, Identity, IdentityService
from partners.models import Partner
from rotations import actions
from rotations.expiring import OURS, ending_by
from rotations.models import Rotation
from tests.mail.letters import letter
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, confirm_all, draft, make_company, partner_certificate

pytestmark = pytest.mark.django_db

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


def needs_at(now: datetime) -> list[Need]:
    return coverage.needs(coverage.look(now), running.running(), now=now, zone="UTC")


def page(client: Client) -> str:
    answer = client.get(reverse("home"))
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_it_says_until_when_all_is_covered(company: Company) -> None:
    assert coverage.look(NOW).until == company.old.not_after
    assert coverage.look(NOW).lapsed == ()


@pytest.mark.parametrize("days", [29, 30, 31, 59, 61, 399])
def test_the_first_end_is_found_near_and_far(days: int) -> None:
    made = make_company()
    partner_certificate(made.partners[0], by=made.by, now=NOW, ends=made.old.not_after + 30 * DAY)
    at = made.old.not_after - days * DAY
    assert coverage.look(at).until == made.old.not_after
    assert coverage.look(made.old.not_after - 401 * DAY).until is None


def test_both_sides_are_looked_at_by_one_question() -> None:
    company = make_company()
    partner_certificate(company.partners[0], by=company.by, now=NOW, ends=company.old.not_after - DAY)
    at = company.old.not_after - 2 * DAY
    with CaptureQueriesContext(connection) as asked:
        found = coverage.look(at)
    assert len(asked) == 2
    assert [(gap.side.name, gap.holder_name) for gap in found.gaps] == [
        ("partner", company.partners[0].name),
        ("identity", company.identity.name),
    ]


@pytest.mark.on_postgres
def test_for_what_ends_first_nobody_goes_through_all_that_serve(company: Company) -> None:
    for rows in (
        ending_by(OURS, company.old.not_after),
        twelve_months._in_use("identity", IdentityService.objects),
    ):
        assert {row.certificate_id for row in rows} == {company.old.pk}
        if connection.vendor == "sqlite":  # PostgreSQL's plan depends on how much there is
            assert "SCAN identities_identityservice" not in rows.explain()


def test_a_rotation_in_time_moves_the_end_of_coverage_to_the_next_certificate(company: Company) -> None:
    rotation = draft(company, starts=NOW + 5 * DAY)
    assert coverage.look(NOW).until == company.old.not_after
    actions.approve(rotation, by=company.approver, now=NOW)
    assert coverage.look(NOW).until == NOW + 300 * DAY


def test_nothing_within_the_year_is_covered_for_longer() -> None:
    assert coverage.look(NOW).until is None


def test_what_has_expired_is_named(company: Company) -> None:
    after = company.old.not_after + timedelta(seconds=1)
    assert coverage.look(after).lapsed == ("ACME",)
    assert coverage.look(company.old.not_after).lapsed == ()


def test_a_test_station_does_not_count_for_production(company: Company) -> None:
    trial = Partner.objects.create(name="Trial", as2_id="TRIAL", environment="test")
    partner_certificate(trial, by=company.by, now=NOW, ends=NOW + DAY)
    assert coverage.look(NOW).until == company.old.not_after
    assert any("Trial" in need.text for need in needs_at(NOW))


def test_a_certificate_that_ends_within_30_days_without_a_rotation_needs_somebody(company: Company) -> None:
    end = company.old.not_after
    assert [n.text for n in needs_at(end - 30 * DAY)] == [
        "ACME sign + decrypt expires in 30 days, no rotation"
    ]
    assert needs_at(end - 30 * DAY - timedelta(seconds=1)) == []


def test_its_button_starts_the_rotation_of_just_that_certificate(company: Company) -> None:
    (need,) = needs_at(NOW)
    assert need.label == "Start rotation"
    assert need.url.startswith(reverse("rotation-create"))
    assert str(company.identity.uid) in need.url
    assert str(company.old.uid) in need.url


def test_it_gets_urgent_in_the_last_week(company: Company) -> None:
    end = company.old.not_after
    assert needs_at(end - 8 * DAY)[0].meaning == "soon"
    assert needs_at(end - 7 * DAY)[0].meaning == "urgent"


def test_a_draft_is_told_once_with_the_end_that_it_concerns(company: Company) -> None:
    draft(company, starts=NOW + 5 * DAY)
    assert [n.text for n in needs_at(NOW)] == [
        "ACME sign + decrypt expires in 20 days, its rotation is a draft"
    ]


def test_silent_partners_are_named_from_three_days_before_the_window(company: Company) -> None:
    actions.approve(draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    assert needs_at(NOW + 2 * DAY - timedelta(seconds=1)) == []
    texts = [n.text for n in needs_at(NOW + 2 * DAY)]
    assert texts[0] == "Fabrikam has not confirmed · window of ACME: sign + decrypt in 3 days"
    assert len(texts) == 2


def test_partners_that_confirmed_are_not_named(company: Company) -> None:
    rotation = actions.approve(draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
    confirm_all(rotation, company)
    assert needs_at(NOW + 3 * DAY) == []
    (one,) = running.running()
    assert (one.ready, one.asked) == (2, 2)


def test_a_window_that_is_over_without_the_change_is_urgent(company: Company) -> None:
    rotation = actions.approve(draft(company, starts=NOW + 5 * DAY), by=company.approver, now=NOW)
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


def test_mail_that_is_stuck_is_urgent_and_leads_to_it() -> None:
    letter(created_at=NOW - timedelta(minutes=16))
    letter("lee@example.com", created_at=NOW - timedelta(minutes=14))
    letter("gone@example.com", created_at=NOW, state="failed")
    (need,) = needs_at(NOW)
    assert (need.meaning, need.text) == ("urgent", "2 mails have not been sent")
    assert need.url == reverse("mail-list") + "?state=stuck"


def test_an_archived_station_needs_nobody(company: Company) -> None:
    Identity.objects.update(archived_at=NOW)
    assert needs_at(NOW) == []
    assert coverage.look(NOW).until == NOW + 300 * DAY


def test_the_picture_has_a_row_per_station_the_first_to_end_on_top(company: Company) -> None:
    picture = twelve_months.picture(running.running(), now=NOW, zone="UTC")
    assert [row.name for row in picture.rows] == ["ACME", "Fabrikam", "Northwind"]
    assert len(picture.rows[0].ends) == 1  # one certificate in two roles is one mark
    assert picture.today < picture.rows[0].ends[0].x < picture.rows[1].ends[0].x


def test_the_picture_shows_the_window(company: Company) -> None:
    draft(company, starts=NOW + 5 * DAY)
    picture = twelve_months.picture(running.running(), now=NOW, zone="UTC")
    assert picture.today < picture.rows[0].windows[0].x < picture.rows[0].ends[0].x


def test_the_page_begins_with_the_sentence(company: Company, clock: object) -> None:
    text = page(log_in(make_person("vera", "viewer")))
    assert "Covered until <time" in text
    assert "13 December 2026</time>. 1 thing needs you." in text


def test_all_that_may_need_somebody_is_found_by_one_question(company: Company, clock: object) -> None:
    with CaptureQueriesContext(connection) as asked:
        assert coverage._present(NOW) == []
    assert len(asked) == 1
    Partner.objects.create(name="Fourth Coffee", as2_id="FOURTH")
    assert needs_at(NOW)[0].text == "Fourth Coffee has no certificate yet"


def test_it_costs_the_same_number_of_queries_however_much_there_is(company: Company, clock: object) -> None:
    client = log_in(make_person("vera", "viewer"))
    actions.approve(draft(company, starts=NOW + 2 * DAY), by=company.approver, now=NOW)
    with CaptureQueriesContext(connection) as few:
        page(client)
    for number in range(30):
        partner = Partner.objects.create(name=f"Shop {number}", as2_id=f"SHOP-{number}")
        partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=5 + number))
    with CaptureQueriesContext(connection) as many:
        text = page(client)
    assert len(many) <= len(few) <= 15
    assert text.count("Start rotation") <= coverage.AT_MOST


def test_a_viewer_gets_no_buttons_that_change_something(company: Company, clock: object) -> None:
    assert "Start rotation" not in page(log_in(make_person("vera", "viewer")))
    assert "Start rotation" in page(log_in(make_person("olga", "operator")))


def test_somebody_without_rights_learns_nothing(company: Company, clock: object) -> None:
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
    draft(company, starts=NOW + 5 * DAY)
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
