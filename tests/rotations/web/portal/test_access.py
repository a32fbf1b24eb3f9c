"""What counts as a look by a person: a mail scanner fetches the page and its links, and leaves "link fetched" only."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from rotations.exchange.partner_evidence import partner_statuses
from rotations.exchange.partner_status import PartnerStatus
from rotations.models import Link, Participant
from rotations.web.portal.access import SECOND_LOOK_AFTER, VISIT_COOKIE
from tests.people import log_in, make_person
from tests.rotations.company import NOW
from tests.rotations.web.portal.conftest import Clock
from tests.rotations.web.portal.visitor import Visitor, page_text

pytestmark = pytest.mark.django_db

FILES = ("pem", "der", "p7b", "zip")


def scan(nora: Visitor, scanner: Client) -> None:
    """Fetch the page and all URLs in it, as mail scanners do, and those of the files."""
    html = scanner.get(nora.address()).content.decode()
    found = set(re.findall(r'(?:href|action|formaction)="(/p/[^"]+)"', html))
    assert found >= {nora.address("portal-download", form) for form in FILES}
    for url in found:
        scanner.get(url, follow=True)


def looks_of(participant: Participant) -> tuple[bool, bool, bool, bool]:
    """Return whether a participant fetched, opened, fetched the file, downloaded."""
    participant.refresh_from_db()
    columns = (participant.fetched_at, participant.opened_at, participant.file_fetched_at, participant.downloaded_at)
    fetched, opened, file_fetched, downloaded = (at is not None for at in columns)
    return fetched, opened, file_fetched, downloaded


def status_of(participant: Participant) -> PartnerStatus:
    return partner_statuses(participant.rotation, now=NOW)[participant.pk]


def test_a_mail_scanner_leaves_fetched_links_only(nora: Visitor, northwind: Participant, clock: Clock) -> None:
    scanners = [Client(REMOTE_ADDR=address) for address in ("203.0.113.1", "203.0.113.2")]
    for _ in range(2):
        for scanner in scanners:
            scan(nora, scanner)
            clock.now += timedelta(seconds=3)
    assert looks_of(northwind) == (True, False, True, False)
    assert Link.objects.get(pk=nora.link.pk).opened_at is None
    assert status_of(northwind) is PartnerStatus.ANNOUNCED
    entries = Entry.objects.filter(source="portal").order_by("pk")
    assert {entry.verb for entry in entries} == {"participant.fetched", "participant.file_fetched"}
    assert {entry.actor_name for entry in entries} == {
        "a person or a mail scanner, by the link of Nora North (Northwind)"
    }
    vera = log_in(make_person("vera", "viewer"))
    overview = page_text(vera.get(reverse("rotation-detail", args=[northwind.rotation.uid])))
    detail = page_text(vera.get(reverse("participant-detail", args=[northwind.uid])))
    assert overview.count("link fetched") == 2
    assert "Opened its page not yet; link fetched" in detail
    assert "Downloaded it not from its page; link fetched" in detail
    assert "fetched the link of the partner’s page" in detail
    for text in (overview, detail):
        assert "opened the partner’s page" not in text
        assert "downloaded the certificate" not in text


def test_the_partner_does_not_read_that_a_scanner_opened_its_page(nora: Visitor) -> None:
    scan(nora, Client(REMOTE_ADDR="203.0.113.1"))
    nora.open()
    assert "opened this page" not in nora.text
    assert "fetched" not in nora.text


def test_a_touch_of_the_page_opens_it(nora: Visitor, northwind: Participant) -> None:
    assert f'action="{nora.address("portal-opened")}" data-opened' in nora.open().content.decode()
    assert nora.client.post(nora.address("portal-opened")).status_code == 204
    assert looks_of(northwind) == (True, True, False, False)
    assert Entry.objects.get(verb="participant.opened").actor_name == "Nora North (Northwind)"
    assert "data-opened" not in nora.open().content.decode()  # it is known


def test_the_post_of_another_site_opens_nothing(nora: Visitor, northwind: Participant) -> None:
    stranger = Client(enforce_csrf_checks=True)
    for name, *args in (("portal-opened",), ("portal-download", "pem")):
        assert stranger.post(nora.address(name, *args)).status_code == 403
    assert looks_of(northwind) == (False, False, False, False)


def test_a_person_without_javascript_opens_and_downloads_with_the_buttons(
    nora: Visitor, northwind: Participant
) -> None:
    nora.open()
    answer = nora.client.post(nora.address("portal-download", "der"))
    assert answer["Content-Disposition"].startswith("attachment")
    assert looks_of(northwind) == (True, True, False, True)
    assert status_of(northwind) is PartnerStatus.DOWNLOADED


def test_an_answer_opens_the_page(nora: Visitor, northwind: Participant) -> None:
    nora.send("decline", reason="Our vendor is away")
    verbs = list(Entry.objects.filter(source="portal").order_by("pk").values_list("verb", flat=True))
    assert verbs == ["participant.fetched", "participant.opened", "participant.declined"]


@pytest.mark.parametrize(
    ("after", "opened"), [(SECOND_LOOK_AFTER - timedelta(seconds=1), False), (SECOND_LOOK_AFTER, True)]
)
def test_another_look_by_the_same_browser_opens_the_page(
    nora: Visitor, northwind: Participant, clock: Clock, after: timedelta, opened: bool
) -> None:
    nora.open()
    clock.now += after
    nora.open()
    assert looks_of(northwind)[1] is opened


@pytest.mark.parametrize("cookie", ["", "1", "1:forged", "x" * 3000])
def test_another_look_without_our_cookie_opens_nothing(
    nora: Visitor, northwind: Participant, clock: Clock, cookie: str
) -> None:
    nora.open()
    clock.now += timedelta(hours=1)
    nora.client.cookies[VISIT_COOKIE] = cookie
    nora.open()
    assert looks_of(northwind)[1] is False


def test_the_cookie_of_a_visit_is_for_its_page_alone(nora: Visitor) -> None:
    cookie = nora.open().cookies[VISIT_COOKIE]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (nora.address(), True, "Lax")
    assert nora.token not in cookie.value


def test_curl_gets_the_file_and_is_a_fetched_link(nora: Visitor, northwind: Participant) -> None:
    answer = Client(REMOTE_ADDR="198.51.100.7").get(nora.address("portal-download", "pem"))
    assert answer["Content-Disposition"].startswith("attachment")
    assert looks_of(northwind) == (False, False, True, False)
    assert Entry.objects.get(verb="participant.file_fetched").new == {"form": "pem"}


def test_reloading_the_address_of_the_script_leads_to_the_page(nora: Visitor, northwind: Participant) -> None:
    assert nora.client.get(nora.address("portal-opened"))["Location"] == nora.address()
    assert looks_of(northwind) == (False, False, False, False)
