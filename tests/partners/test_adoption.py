"""Adopting what an AS2 system uses: what is put into service, what is taken in, and what is refused."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from as2certs import pki
from as2certs.audit.models import Entry
from identities.connectors.use import RoleDifference
from identities.role_assignments import certificates_by_role
from partners import adoption, baselines
from partners.errors import AdoptionRefused
from partners.models import StationBaseline
from tests.certificates import make_pair
from tests.inventory import client_of
from tests.rotations.company import NOW, Company, make_company, make_draft, partner_certificate

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.dates, pytest.mark.on_postgres]

DAY = timedelta(days=1)


@pytest.fixture
def company() -> Company:
    return make_company()


def differing(
    company: Company, holder: Any, *used: Any, roles: tuple[str, ...] = (), shown: x509.Certificate | None = None
) -> StationBaseline:
    """Return a station whose system uses these certificates (or SHA-256) in some roles, as it was compared."""
    found = tuple(one if isinstance(one, str) else one.sha256 for one in used)
    serving = certificates_by_role(holder)
    differences = [
        {
            "where": "OpenAS2",
            "role": role,
            "partner": "",
            "found": list(found),
            "expected": [one.sha256 for one in serving[role]],
            "is_disputed": False,
        }
        for role in roles or holder.ROLES
    ]
    assert company.system is not None
    pem = {pki.describe(shown).sha256: pki.to_pem(shown).decode()} if shown else {}
    return StationBaseline.objects.create(
        system=company.system,
        due_at=NOW + DAY,
        state="done",
        compared_at=NOW,
        differs_since=NOW,
        differences=differences,
        shown=pem,
        **{holder.side: holder},
    )


def in_use(holder: Any) -> dict[str, list[str]]:
    return {role: [one.sha256 for one in held] for role, held in certificates_by_role(holder).items()}


def other(name: str = "FABRIKAM", ends: datetime = NOW + 400 * DAY) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    return make_pair(name, not_before=NOW - DAY, not_after=ends)


def test_what_the_inventory_has_is_put_into_service_with_the_reason(company: Company) -> None:
    row = differing(company, company.identity, company.new)
    assert company.new.sha256 in [one.sha256 for one, _ in adoption.plan_adoption(row, now=NOW).certificates]
    adoption.adopt(row, reason="Entered by hand on Monday.", by=company.approver, now=NOW + DAY)
    assert in_use(company.identity) == {"sign": [company.new.sha256], "decrypt": [company.new.sha256]}
    ended = company.identity.service.filter(certificate=company.old)
    assert {one.ends_at for one in ended} == {NOW + DAY}
    entry = Entry.objects.get(verb="certificate.adopted")
    assert (entry.reason, entry.actor_name) == ("Entered by hand on Monday.", "Bob")
    row.refresh_from_db()
    assert (row.differences, row.differs_since, row.due_at) == ([], None, NOW + DAY)


def test_only_the_roles_that_differ_change(company: Company) -> None:
    row = differing(company, company.identity, company.new, roles=("sign",))
    adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    assert in_use(company.identity) == {"sign": [company.new.sha256], "decrypt": [company.old.sha256]}


def test_a_reader_gets_all_that_the_system_accepts(company: Company) -> None:
    row = differing(company, company.identity, company.old, company.new, roles=("decrypt",))
    adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    assert set(in_use(company.identity)["decrypt"]) == {company.old.sha256, company.new.sha256}


def test_an_unknown_certificate_of_a_partner_that_the_system_shows_is_taken_in(company: Company) -> None:
    partner = company.partners[0]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + 90 * DAY)
    leaf, _ = other()
    sha256 = pki.describe(leaf).sha256
    row = differing(company, partner, sha256, shown=leaf)
    adoption.adopt(row, reason="They changed it.", by=company.approver, now=NOW)
    assert in_use(partner) == {"verify": [sha256], "encrypt": [sha256]}
    taken = partner.certificates.get(sha256=sha256)
    assert (taken.created_by, taken.certificate) == ("Bob", leaf)
    verbs = set(Entry.objects.filter(object_uid=str(taken.uid)).values_list("verb", flat=True))
    assert {"certificate.taken_in", "certificate.adopted"} <= verbs
    assert old.sha256 not in in_use(partner)["verify"]


def test_an_expired_or_weak_certificate_is_refused_as_an_upload_would_be(company: Company) -> None:
    partner = company.partners[0]
    partner_certificate(partner, by=company.by, now=NOW, ends=NOW + 90 * DAY)
    leaf, _ = make_pair("FABRIKAM", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    row = differing(company, partner, pki.describe(leaf).sha256, shown=leaf)
    with pytest.raises(AdoptionRefused, match="can't be taken in"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    assert partner.certificates.count() == 1


@pytest.mark.parametrize("is_shown", [True, False])
def test_ours_without_its_private_key_has_to_be_uploaded_first(company: Company, is_shown: bool) -> None:
    leaf, _ = other("ACME-PROD")
    row = differing(company, company.identity, pki.describe(leaf).sha256, shown=leaf if is_shown else None)
    with pytest.raises(AdoptionRefused, match="upload it with the key first"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    assert in_use(company.identity)["sign"] == [company.old.sha256]


def test_a_certificate_of_a_partner_that_nobody_has_seen_can_not_be_adopted(company: Company) -> None:
    partner = company.partners[0]
    partner_certificate(partner, by=company.by, now=NOW, ends=NOW + 90 * DAY)
    row = differing(company, partner, "ab" * 32)
    with pytest.raises(AdoptionRefused, match="does not show it: upload it first"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)


def test_nothing_is_adopted_while_a_rotation_runs(company: Company) -> None:
    row = differing(company, company.identity, company.new)
    make_draft(company, starts=NOW + DAY)
    with pytest.raises(AdoptionRefused, match="finish or cancel it first"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)


def test_a_writer_without_or_with_two_certificates_is_to_be_corrected_there(company: Company) -> None:
    row = differing(company, company.identity, roles=("sign",))
    with pytest.raises(AdoptionRefused, match="no certificate to sign"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    row.differences[0]["found"] = [company.old.sha256, company.new.sha256]
    row.save()
    with pytest.raises(AdoptionRefused, match="several certificates to sign"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("partner", "NORTHWIND", "for one partner alone"), ("is_disputed", True, "Two sources")],
)
def test_what_is_for_one_partner_alone_or_disputed_is_to_be_corrected_there(
    company: Company, column: str, value: object, why: str
) -> None:
    row = differing(company, company.identity, company.new, roles=("sign",))
    row.differences[0][column] = value
    row.save()
    with pytest.raises(AdoptionRefused, match=why):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)


def test_a_difference_that_changed_meanwhile_is_not_adopted(company: Company) -> None:
    row = differing(company, company.identity, company.new)
    StationBaseline.objects.update(differences=row.differences[:1])
    with pytest.raises(AdoptionRefused, match="has changed meanwhile"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)
    StationBaseline.objects.all().delete()
    with pytest.raises(AdoptionRefused, match="has changed meanwhile"):
        adoption.adopt(row, reason="So it is.", by=company.approver, now=NOW)


def test_the_page_shows_what_it_does_wants_a_reason_and_does_it_once(company: Company, clock: datetime) -> None:
    row = differing(company, company.identity, company.new)
    approver = client_of("approver")
    address = f"/differences/{row.uid}/adopt/"
    page = approver.get(address).content.decode()
    assert company.new.short_name in page
    assert "in use in the inventory from now on: sign and decrypt" in " ".join(page.split())
    seen = adoption.version_of(row)
    assert f'name="seen" value="{seen}"' in page
    assert "Say why." in approver.post(address, {"reason": " ", "seen": seen}).content.decode()
    older = approver.post(address, {"reason": "Entered by hand.", "seen": "of another difference"}).content.decode()
    assert "has changed since you opened this page" in older
    assert in_use(company.identity)["sign"] == [company.old.sha256]
    answer = approver.post(address, {"reason": "Entered by hand.", "seen": seen})
    assert answer.status_code == 302
    assert in_use(company.identity)["sign"] == [company.new.sha256]
    row.refresh_from_db()
    seen = adoption.version_of(row)
    again = approver.post(address, {"reason": "Entered by hand.", "seen": seen}).content.decode()
    assert "there is nothing to adopt" in again
    assert Entry.objects.filter(verb="certificate.adopted").count() == 1


def test_the_page_says_what_is_against_it_and_who_may_not(company: Company, operator: Client) -> None:
    row = differing(company, company.identity, "ab" * 32)
    address = f"/differences/{row.uid}/adopt/"
    assert operator.get(address).status_code == 403
    page = client_of("approver").get(address).content.decode()
    assert "upload it with the key first" in page
    assert 'name="reason"' not in page


def test_a_stored_difference_reads_as_it_was_found() -> None:
    one = RoleDifference("OpenAS2", "sign", "", ("aa" * 32,), ("bb" * 32,), is_disputed=True)
    row = StationBaseline(differences=baselines.difference_columns([one]))
    assert row.role_differences == [one]
