from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.site.searching import MAX_RESULTS, search
from identities.models import IdentityCertificate
from partners.models import Contact, Partner
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft, partner_certificate

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


@pytest.fixture
def company() -> Company:
    return make_company()


def certificates(words: str) -> list[IdentityCertificate]:
    vera = User.objects.filter(username="vera").first() or make_person("vera", "viewer")
    groups = search(words, vera)
    return [row for group in groups if group.title == "Our certificates" for row in group.rows]


def spellings(sha256: str) -> list[str]:
    colons = pki.format_fingerprint(sha256)
    return [
        sha256,
        colons,
        colons.lower(),
        colons.replace(":", " "),
        f"sha256 Fingerprint={colons}",
        f"SHA-256: {colons}",
        pki.short_fingerprint(sha256),
        sha256[:6],
        f"  {colons}  ",
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_fingerprint_is_found_in_any_spelling(company: Company, number: int) -> None:
    assert company.new in certificates(spellings(company.new.sha256)[number])


def test_a_certificate_is_found_by_its_sha1_fingerprint_too(company: Company) -> None:
    assert certificates(company.old.sha1.upper()) == [company.old]


def test_a_serial_number_is_found_in_decimal_and_in_hex(company: Company) -> None:
    serial = int(company.old.serial)
    digits = f"{serial:x}".zfill(2 * ((len(f"{serial:x}") + 1) // 2))
    colons = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)).upper()
    for words in (str(serial), f"{serial:x}", f"0x{serial:X}", colons, f"serial={serial:X}"):
        assert certificates(words) == [company.old], words


def test_a_short_word_of_hex_digits_is_not_searched_as_a_fingerprint(company: Company) -> None:
    assert certificates("fab") == []


def test_names_and_as2_ids_of_both_sides_are_found_and_grouped(company: Company) -> None:
    partner_certificate(company.partners[0], by=company.by, now=NOW, ends=NOW + timedelta(days=99))
    Contact.objects.create(partner=company.partners[0], name="Dave", email="dave@fabrikam.example")
    titles = [group.title for group in search("FABRIKAM", make_person("vera", "viewer"))]
    assert titles == ["Partners", "Partners’ certificates", "Contacts"]
    titles = [group.title for group in search("acme-prod", make_person("olga", "operator"))]
    assert titles == ["Identities", "Our certificates"]


def test_a_rotation_is_found_by_the_name_of_its_holder(company: Company) -> None:
    rotation = make_draft(company, starts=NOW + timedelta(days=3))
    rows = [r for g in search("acme", make_person("vera", "viewer")) if g.title == "Rotations" for r in g.rows]
    assert rows == [rotation]


def test_a_search_without_permissions_finds_nothing(company: Company) -> None:
    assert search("acme", make_person("nobody")) == []


def test_a_search_that_matches_everything_shows_ten_of_each_and_says_that_there_are_more() -> None:
    Partner.objects.bulk_create(Partner(name=f"Shop {i}", as2_id=f"SHOP-{i}") for i in range(MAX_RESULTS + 3))
    (group,) = search("shop", make_person("vera", "viewer"))
    assert len(group.rows) == MAX_RESULTS
    assert group.more


@pytest.mark.parametrize("words", ["", "   ", "%", "_", "'", "…", "0x", "\x00", "::", "9" * 200])
def test_unusual_search_terms_get_a_page(company: Company, words: str) -> None:
    answer = log_in(make_person("vera", "viewer")).get(reverse("search"), {"q": words})
    assert answer.status_code == 200


def test_the_search_term_is_escaped(client: Client) -> None:
    answer = log_in(make_person("vera", "viewer")).get(reverse("search"), {"q": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in answer.content.decode()
