"""The TLS certificates of AS2 URLs: whose are looked at and when, what is stored, and what people are told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from partners import tls_certificates
from partners.models import TlsCertificate
from rotations.notifications import station_mail
from tests.as2.server import LOOPBACK, Server, saying, serve, tls_context, tls_pair
from tests.certificates import cert_pem
from tests.rotations.company import NOW, Company, make_company

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates]

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def server(tmp_path: Path, settings: LazySettings) -> Iterator[Server]:
    settings.AS2CERTS_AS2_NETWORKS = list(LOOPBACK)
    with serve(saying(b""), tls_context(tmp_path, tls_pair())) as found:
        yield found


@pytest.fixture
def company(server: Server) -> Company:
    found = make_company()
    found.identity.url = server.url("https", "localhost")
    found.identity.save()
    return found


def look(now: Any = NOW) -> None:
    while tls_certificates.look_at_next(lambda: now) or tls_certificates.add_missing(now=now):
        pass


def test_the_certificate_of_an_identitys_url_is_stored_trusted_or_not(company: Company, server: Server) -> None:
    look()
    row = TlsCertificate.objects.get()
    found = pki.describe(tls_pair()[0])
    assert (row.holder, row.sha256, row.subject) == (company.identity, found.sha256, "CN=localhost")
    assert (row.not_after, row.seen_at, row.problem) == (found.not_after, NOW, "self-signed certificate")
    assert (row.changed_at, row.failing_since, row.due_at) == (None, None, NOW + DAY)
    assert server.requests == []


def test_a_trusted_one_has_no_problem(company: Company, settings: LazySettings) -> None:
    settings.AS2CERTS_AS2_AUTHORITIES = cert_pem(tls_pair()[0]).decode()
    look()
    assert TlsCertificate.objects.get().problem == ""


def test_partners_are_looked_at_only_where_that_was_asked_for(company: Company, server: Server) -> None:
    partner = company.partners[0]
    partner.url = server.url("https", "localhost")
    partner.save()
    look()
    assert not TlsCertificate.objects.filter(partner=partner).exists()
    partner.watches_tls = True
    partner.save()
    look()
    assert TlsCertificate.objects.get(partner=partner).seen_at == NOW
    partner.watches_tls = False
    partner.save()
    look(NOW + DAY)
    assert not TlsCertificate.objects.filter(partner=partner).exists()


@pytest.mark.parametrize("url", ["http://localhost/as2", ""])
def test_a_url_without_tls_is_not_looked_at(company: Company, url: str) -> None:
    type(company.identity).objects.update(url=url)
    look()
    assert not TlsCertificate.objects.exists()


def test_another_url_begins_anew_and_an_archived_station_is_forgotten(company: Company) -> None:
    look()
    url = company.identity.url.replace("as2", "other")
    type(company.identity).objects.update(url=url)
    look(NOW + DAY)
    row = TlsCertificate.objects.get()
    assert (row.url, row.changed_at, row.seen_at) == (url, None, NOW + DAY)
    type(company.identity).objects.update(archived_at=NOW)
    look(NOW + 2 * DAY)
    assert not TlsCertificate.objects.exists()


def test_a_server_that_does_not_answer_keeps_what_was_seen(company: Company, settings: LazySettings) -> None:
    look()
    settings.AS2CERTS_AS2_NETWORKS = []
    look(NOW + DAY)
    row = TlsCertificate.objects.get()
    assert (row.failing_since, row.due_at, row.seen_at) == (NOW + DAY, NOW + DAY + HOUR, NOW)
    assert "127.0.0.1" in row.message or "localhost" in row.message
    look(NOW + DAY + HOUR)
    assert TlsCertificate.objects.get().failing_since == NOW + DAY
    settings.AS2CERTS_AS2_NETWORKS = list(LOOPBACK)
    look(NOW + DAY + 2 * HOUR)
    row = TlsCertificate.objects.get()
    assert (row.failing_since, row.message) == (None, "")


def test_a_change_is_told_once_and_so_is_each_threshold(company: Company) -> None:
    look()
    TlsCertificate.objects.update(sha256="ab" * 32, problem="", told=[])
    look(NOW + DAY)
    assert TlsCertificate.objects.get().changed_at == NOW + DAY
    assert station_mail.notify_tls_certificates(NOW + DAY) == 1
    mail = Message.objects.get()
    assert mail.to_address == "alice@example.com"
    assert "has changed and is not trusted (self-signed certificate)" in " ".join(mail.text.split())
    assert "It is not an AS2 certificate" in " ".join(mail.text.split())
    look(NOW + 2 * DAY)
    assert station_mail.notify_tls_certificates(NOW + 2 * DAY) == 0
    assert find_withdrawal(mail, now=NOW) is None
    TlsCertificate.objects.update(sha256="cd" * 32)
    assert find_withdrawal(mail, now=NOW) is not None


def test_its_end_is_told_at_the_thresholds_of_the_station(company: Company) -> None:
    company.identity.reminder_days = [30, 7]
    company.identity.save()
    ends = NOW + 40 * DAY
    TlsCertificate.objects.create(
        identity=company.identity, url=company.identity.url, due_at=NOW, sha256="ab" * 32, not_after=ends
    )
    told = []
    for day in range(45):
        TlsCertificate.objects.update(is_reviewed=False)
        if station_mail.notify_tls_certificates(NOW + day * DAY):
            told.append(day)
    assert told == [10, 33]
    subjects = list(Message.objects.order_by("pk").values_list("subject", flat=True))
    assert subjects == [
        "ACME: the TLS certificate of localhost expires in 30 days",
        "ACME: the TLS certificate of localhost expires in 7 days",
    ]


def test_it_is_a_section_of_the_stations_page_and_a_task_when_something_is_to_be_done(
    company: Company, operator: Client, clock: datetime
) -> None:
    look()
    page = " ".join(operator.get(company.identity.get_absolute_url()).content.decode().split())
    assert "TLS certificate of the AS2 URL" in page
    assert "is not an AS2 certificate" in page
    task = "The TLS certificate of localhost is not trusted: self-signed certificate."
    assert task in page
    assert f"ACME: {task}" in operator.get(reverse("home")).content.decode()
    address = company.identity.get_absolute_url()
    TlsCertificate.objects.update(problem="", not_after=clock + 30 * DAY)
    assert "The TLS certificate of localhost expires in 30 days." in operator.get(address).content.decode()
    TlsCertificate.objects.update(not_after=clock + 31 * DAY)
    assert "The TLS certificate of localhost expires" not in operator.get(address).content.decode()
    TlsCertificate.objects.update(not_after=clock + 5000 * DAY)
    assert "The TLS certificate of localhost" not in operator.get(reverse("home")).content.decode()


def test_the_form_of_a_partner_has_the_choice(company: Company, operator: Client) -> None:
    page = operator.get(reverse("partner-update", args=[company.partners[0].uid])).content.decode()
    assert 'name="watches_tls"' in page
    assert "Watch the TLS certificate of their AS2 URL" in page
