"""Mails about AS2 systems that use other certificates than the inventory says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from partners.models import StationBaseline
from rotations.notifications import station_mail
from tests.inventory import count_queries
from tests.rotations.company import NOW, Company, connect_many, make_company, make_draft

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

DAY = timedelta(days=1)


@pytest.fixture
def company() -> Company:
    return make_company()


def differ(company: Company, holder: Any, found: str = "ab" * 32) -> StationBaseline:
    difference = {
        "where": "OpenAS2",
        "role": holder.ROLES[0],
        "partner": "",
        "found": [found],
        "expected": ["cd" * 32],
        "is_disputed": False,
    }
    assert company.system is not None
    row, _ = StationBaseline.objects.update_or_create(
        system=company.system,
        **{holder.side: holder},
        defaults={"due_at": NOW, "differences": [difference], "differs_since": NOW, "notified_at": None},
    )
    return row


def test_owners_get_one_mail_for_each_new_difference(company: Company) -> None:
    row = differ(company, company.identity)
    assert station_mail.notify_differences(NOW) == 1
    mail = Message.objects.get()
    assert (mail.to_address, mail.kind) == ("alice@example.com", "system_differs")
    assert mail.subject == "ACME: OpenAS2 production uses other certificates"
    assert "OpenAS2 signs with" in mail.text
    assert "is not in the inventory" in mail.text
    assert f"{settings.AS2CERTS_BASE_URL}{row.system.get_absolute_url()}" in mail.text
    assert station_mail.notify_differences(NOW + DAY) == 0
    StationBaseline.objects.update(differs_since=NOW + DAY, notified_at=None)
    assert station_mail.notify_differences(NOW + DAY) == 1


def test_a_system_that_is_ahead_of_its_rotation_is_named_so(company: Company) -> None:
    make_draft(company, starts=NOW + DAY)
    differ(company, company.identity, company.new.sha256)
    station_mail.notify_differences(NOW)
    mail = Message.objects.get()
    assert mail.subject == "ACME: OpenAS2 production uses the new certificate already"
    assert "its rotation has not made the change" in " ".join(mail.text.split())


def test_many_stations_are_one_mail_in_a_few_queries(company: Company) -> None:
    connect_many(company.identity, 60)
    for partnership in company.identity.partnerships.select_related("partner"):
        partnership.partner.owners.add(company.bob)
        differ(company, partnership.partner)
    differ(company, company.identity)
    assert count_queries(lambda: station_mail.notify_differences(NOW)) <= 20
    mails = {mail.to_address: mail for mail in Message.objects.all()}
    assert set(mails) == {"alice@example.com", "bob@example.com"}
    assert "at 62 stations" in " ".join(mails["bob@example.com"].text.split())
    assert "37 more stations are not listed here" in " ".join(mails["bob@example.com"].text.split())
    assert mails["alice@example.com"].subject.endswith("uses other certificates")


def test_it_is_withdrawn_once_nothing_of_it_is_true(company: Company) -> None:
    differ(company, company.identity)
    station_mail.notify_differences(NOW)
    mail = Message.objects.get()
    assert find_withdrawal(mail, now=NOW) is None
    StationBaseline.objects.update(differs_since=NOW + DAY)
    withdrawal = find_withdrawal(mail, now=NOW)
    assert withdrawal is not None
    assert "has changed since" in withdrawal.reason
    StationBaseline.objects.update(differs_since=None, differences=[])
    assert find_withdrawal(mail, now=NOW) is not None


def test_nobody_is_told_of_an_archived_system(company: Company) -> None:
    row = differ(company, company.identity)
    type(row.system).objects.update(archived_at=NOW)
    assert station_mail.notify_differences(NOW) == 0
