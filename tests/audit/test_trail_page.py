from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit import sealing
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.audit.views import PAGE_SIZE
from partners.models import Partner
from tests.people import log_in, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALICE = Actor(name="Alice", source="web", address="192.0.2.7")
BOB = Actor(name="Bob", source="command")


@pytest.fixture
def client() -> Client:
    return log_in(make_person("vera", "viewer", time_zone="America/Chicago"))


@pytest.fixture
def partner() -> Partner:
    return Partner.objects.create(name="Northwind", as2_id="NORTHWIND")


def shown(client: Client, **question: str) -> list[Entry]:
    return list(client.get(reverse("audit-list"), question).context["entries"])


def test_an_entry_shows_actor_action_object_time_and_address(client: Client, partner: Partner) -> None:
    record(
        AuditEvent(
            "partner.changed",
            partner,
            old={"time_zone": "UTC"},
            new={"time_zone": "America/Chicago"},
            reason="They moved.",
        ),
        by=ALICE,
        now=NOW,
    )
    text = " ".join(client.get(reverse("audit-list")).content.decode().split())
    for words in (
        "<b>Alice</b> changed the partner",
        f'<a href="{partner.get_absolute_url()}">Northwind</a>',
        "23 Nov 2026, 06:00:00 CST",
        "browser, 192.0.2.7",
        "time zone: <del>UTC</del> → <ins>America/Chicago</ins>",
        "“They moved.”",
    ):
        assert words in text


def test_the_trail_is_filtered_by_person_kind_and_object(client: Client, partner: Partner) -> None:
    first = record(AuditEvent("partner.created", partner), by=ALICE, now=NOW)
    second = record(AuditEvent("partnership.created", partner), by=BOB, now=NOW)
    other = record(AuditEvent("partner.created", Partner.objects.create(name="Fabrikam", as2_id="F")), by=BOB, now=NOW)
    assert shown(client, who="ali") == [first]
    assert shown(client, what="partnerships") == [second]
    assert shown(client, q="fabri") == [other]
    assert shown(client, about=f"partners.partner:{partner.uid}") == [second, first]
    assert shown(client, who="bob", what="partners and contacts") == [other]


def test_the_trail_is_filtered_by_verb_source_and_address(client: Client, partner: Partner) -> None:
    first = record(AuditEvent("partner.created", partner), by=ALICE, now=NOW)
    second = record(AuditEvent("partner.changed", partner), by=BOB, now=NOW)
    elsewhere = Actor(name="Alice", source="web", address="2001:db8::7")
    third = record(AuditEvent("partner.changed", partner), by=elsewhere, now=NOW)
    assert shown(client, verb="partner.changed") == [third, second]
    assert shown(client, verb="partner.changed", through="web") == [third]
    assert shown(client, through="command") == [second]
    assert shown(client, address="192.0.2.7") == [first]
    assert shown(client, address="2001:DB8:0::7") == [third]
    page = client.get(reverse("audit-list")).content.decode()
    for option in ("partner: changed", "partner: created", "person: logged in"):
        assert f">{option}</option>" in page


def test_a_sealed_entry_shows_its_position(client: Client, partner: Partner) -> None:
    assert "sealed up to" not in client.get(reverse("audit-list")).content.decode()
    record(AuditEvent("partner.created", partner), by=ALICE, now=NOW)
    sealing.seal()
    page = client.get(reverse("audit-list"), {"who": "Alice"}).content.decode()
    assert "browser, 192.0.2.7 · No. 2</span>" in page
    assert f'title="{Chain.objects.get()}"' in page


def test_days_are_in_the_readers_zone_and_inclusive(client: Client, partner: Partner) -> None:
    midnight = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)  # in Chicago
    before = record(AuditEvent("partner.changed", partner), by=ALICE, now=midnight - timedelta(seconds=1))
    after = record(AuditEvent("partner.changed", partner), by=ALICE, now=midnight)
    assert shown(client, q="north", since="2026-11-23") == [after]
    assert shown(client, q="north", until="2026-11-22") == [before]
    assert shown(client, q="north", since="2026-11-22", until="2026-11-23") == [after, before]


def test_older_entries_follow_page_by_page_without_gaps_or_repeats(client: Client, partner: Partner) -> None:
    for number in range(PAGE_SIZE + 5):
        record(AuditEvent("partner.changed", partner), by=ALICE, now=NOW + timedelta(seconds=number))
    first = client.get(reverse("audit-list"), {"q": "north"})
    record(AuditEvent("partner.changed", partner), by=ALICE, now=NOW + timedelta(hours=1))
    second = client.get(f"{reverse('audit-list')}?{first.context['older']}")
    seen = [entry.pk for page in (first, second) for entry in page.context["entries"]]
    assert len(seen) == len(set(seen)) == PAGE_SIZE + 5
    assert second.context["older"] == ""
    assert second.context["newest"] == "q=north"


def test_a_page_costs_the_same_however_long_the_trail_is(client: Client, partner: Partner) -> None:
    record(AuditEvent("partner.changed", partner), by=ALICE, now=NOW)
    with CaptureQueriesContext(connection) as few:
        client.get(reverse("audit-list"))
    for _ in range(3 * PAGE_SIZE):
        record(AuditEvent("partner.changed", partner), by=ALICE, now=NOW)
    with CaptureQueriesContext(connection) as many:
        client.get(reverse("audit-list"))
    assert len(many) == len(few)


@pytest.mark.parametrize(
    "question", [{"below": "x"}, {"below": "-1"}, {"below": "9" * 40}, {"since": "yesterday"}, {"about": "nothing"},
                 {"what": "nothing"}, {"q": "\x00"}, {"verb": "nothing"}, {"through": "nothing"},
                 {"address": "192.0.2"}],
)  # fmt: skip
def test_invalid_filters_get_a_page(client: Client, partner: Partner, question: dict[str, str]) -> None:
    record(AuditEvent("partner.changed", partner), by=ALICE, now=NOW)
    assert client.get(reverse("audit-list"), question).status_code == 200


def test_names_of_deleted_objects_are_shown(client: Client, partner: Partner) -> None:
    record(AuditEvent("partner.created", partner), by=ALICE, now=NOW)
    Partner.objects.all().delete()
    assert "Northwind" in client.get(reverse("audit-list")).content.decode()


def test_the_trail_requires_the_permission() -> None:
    assert log_in(make_person("nobody")).get(reverse("audit-list")).status_code == 403
