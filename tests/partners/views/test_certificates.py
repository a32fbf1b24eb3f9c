"""Partners' certificates: upload, list, detail and download; private keys are refused."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from identities.models import PrivateKey
from partners.models import Partner, PartnerCertificate
from tests.certificates import cert_der, cert_pem, key_pem, make_ca, make_pair, p12
from tests.inventory import NOW, add_certificate, count_queries, listed_names, make_partner, verbs

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

BEGAN = NOW - timedelta(days=10)
LIST = "/partners/certificates/"


def pair(days: float = 700, **options: Any) -> Any:
    return make_pair("NORTHWIND-2", not_before=BEGAN, not_after=NOW + timedelta(days=days), **options)


def upload(client: Client, partner: Partner, data: bytes = b"", **fields: Any) -> Any:
    typed: dict[str, Any] = {"roles": ["verify", "encrypt"], **fields}
    if data:
        typed["certificate_file"] = SimpleUploadedFile("from-partner.p7b", data)
    return client.post(reverse("partner-upload", args=[partner.uid]), typed)


def test_the_form_starts_without_errors_and_with_both_roles(operator: Client) -> None:
    form = operator.get(reverse("partner-upload", args=[make_partner().uid])).context["form"]
    assert not form.errors
    assert form["roles"].value() == ["verify", "encrypt"]


def test_of_an_old_and_a_new_certificate_the_newer_one_is_imported_once_that_is_confirmed(operator: Client) -> None:
    partner, (new, _) = make_partner(), pair()
    data = cert_pem(pair(days=20)[0], new)
    answer = upload(operator, partner, data)
    assert [one.code for one in answer.context["form"].warnings] == ["newest-of-several"]
    assert upload(operator, partner, data, despite_warnings="on").status_code == 302
    assert bytes(PartnerCertificate.objects.get().der) == cert_der(new)


@pytest.mark.parametrize("how", ["pem", "der", "p7b", "p7b as PEM"])
def test_a_certificate_is_imported_in_each_format_and_used_at_once_in_free_roles(operator: Client, how: str) -> None:
    ca = make_ca("Their CA")
    leaf, _ = pair(issuer=ca)
    data = {
        "pem": cert_pem(leaf, ca[0]),
        "der": cert_der(leaf),
        "p7b": pkcs7.serialize_certificates([ca[0], leaf], Encoding.DER),
        "p7b as PEM": pkcs7.serialize_certificates([ca[0], leaf], Encoding.PEM),
    }[how]
    answer = upload(operator, make_partner(), data)
    certificate = PartnerCertificate.objects.get()
    assert answer["Location"] == certificate.get_absolute_url()
    assert bytes(certificate.der) == cert_der(leaf)
    assert bool(certificate.chain_pem) == (how != "der")
    assert sorted(row.role for row in certificate.service.all()) == ["encrypt", "verify"]


def test_with_a_certificate_in_use_it_redirects_to_a_new_rotation(operator: Client) -> None:
    partner = make_partner()
    old = add_certificate(partner)
    answer = upload(operator, partner, cert_pem(pair()[0]))
    new = PartnerCertificate.objects.exclude(pk=old.pk).get()
    assert answer["Location"] == (
        f"{reverse('rotation-create')}?partner={partner.uid}&old={old.uid}&new={new.uid}&roles=verify&roles=encrypt"
    )
    assert new.service.count() == 0


def test_an_expired_certificate_in_use_is_recorded_with_a_reason(operator: Client) -> None:
    partner, data = make_partner(), cert_pem(pair(days=-1)[0])
    asked = upload(operator, partner, data, despite_warnings="on")
    assert list(asked.context["form"].errors) == ["expired_reason"]
    assert 'name="expired_reason"' in asked.content.decode()
    assert not PartnerCertificate.objects.exists()
    reason = "They sign with it today"
    assert upload(operator, partner, data, despite_warnings="on", expired_reason=reason).status_code == 302
    assert sorted(row.role for row in partner.service.open()) == ["encrypt", "verify"]
    assert Entry.objects.get(verb="certificate.expired_accepted").reason == reason


def test_a_certificate_valid_later_waits_for_a_rotation_and_stays_an_open_task(operator: Client) -> None:
    partner = make_partner()
    leaf, _ = make_pair("NEXT", not_before=NOW + timedelta(days=20), not_after=NOW + timedelta(days=700))
    answer = upload(operator, partner, cert_pem(leaf), despite_warnings="on")
    new = PartnerCertificate.objects.get()
    expected = f"{reverse('rotation-create')}?partner={partner.uid}&new={new.uid}&roles=verify&roles=encrypt"
    assert answer["Location"] == expected
    assert not partner.service.exists()
    (task,) = (need for need in operator.get(partner.get_absolute_url()).context["needs"] if "stored" in need.text)
    assert task.url == expected
    assert "valid from 2026-12-13" in task.text


@pytest.mark.parametrize("how", ["PKCS#12", "PEM with key", "key alone", "pasted"])
def test_a_private_key_is_refused_as_compromised_and_stored_nowhere(
    operator: Client, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.DEBUG)
    leaf, key = pair()
    pem = key_pem(key)
    ways: dict[str, dict[str, Any]] = {
        "PKCS#12": {"data": p12((leaf, key), password=None)},
        "PEM with key": {"data": cert_pem(leaf) + pem},
        "key alone": {"data": pem},
        "pasted": {"certificate_text": (cert_pem(leaf) + pem).decode()},
    }
    answer = upload(operator, make_partner(), **ways[how])
    form = answer.context["form"]
    at = "certificate_text" if how == "pasted" else "certificate_file"
    assert list(form.errors) == [at]
    assert "compromised" in form.errors[at][0]
    assert not PartnerCertificate.objects.exists()
    assert not PrivateKey.objects.exists()
    assert verbs() == []
    line = pem.decode().splitlines()[2]
    everything = answer.content.decode() + caplog.text + "".join(str(e.new) for e in Entry.objects.all())
    assert line not in everything


@pytest.mark.parametrize("data", [b"\0\1\2" * 100, b"-----BEGIN CERTIFICATE-----\nMIIB", b"x" * (2**20 + 1)])
def test_invalid_input_is_reported_at_its_field_and_changes_nothing(operator: Client, data: bytes) -> None:
    form = upload(operator, make_partner(), data).context["form"]
    assert list(form.errors) == ["certificate_file"]
    assert not PartnerCertificate.objects.exists()


def test_a_bundle_with_two_leaves_is_refused(operator: Client) -> None:
    form = upload(operator, make_partner(), cert_pem(pair()[0], make_pair("OTHER")[0])).context["form"]
    assert list(form.errors) == ["certificate_file"]


def test_warnings_have_to_be_confirmed(operator: Client) -> None:
    partner = make_partner()
    data = cert_pem(pair(days=3650)[0])
    assert list(upload(operator, partner, data).context["form"].errors) == ["despite_warnings"]
    assert upload(operator, partner, data, despite_warnings="on").status_code == 302


def test_a_viewer_imports_nothing(viewer: Client) -> None:
    assert upload(viewer, make_partner(), cert_pem(pair()[0])).status_code == 403
    assert not PartnerCertificate.objects.exists()


def test_the_list_shows_those_in_use_that_end_first_on_top(operator: Client) -> None:
    later, soon = (
        add_certificate(make_partner("LATER"), days=300),
        add_certificate(make_partner("SOON"), days=20),
    )
    partner = Partner.objects.get(as2_id="SOON")
    unused = add_certificate(partner, days=500)
    assert listed_names(operator, LIST) == [str(soon), str(later)]
    assert listed_names(operator, LIST, serves="no") == [str(unused)]
    assert listed_names(operator, LIST, q="later") == [str(later)]
    assert listed_names(operator, LIST, sort="-holder") == [str(soon), str(later)]


def test_a_longer_list_takes_no_more_queries(operator: Client) -> None:
    add_certificate(make_partner("ONE"))
    few = count_queries(lambda: operator.get(LIST))
    for number in range(10):
        add_certificate(make_partner(f"P-{number}"), days=30 + number)
    assert count_queries(lambda: operator.get(LIST)) == few


def test_the_page_and_the_download_show_the_public_part(viewer: Client) -> None:
    certificate = add_certificate(make_partner())
    page = viewer.get(certificate.get_absolute_url()).content.decode()
    assert "private key" not in page.lower()
    address = reverse("partner-certificate-export", args=[certificate.uid])
    assert viewer.get(address, {"format": "der"}).content == bytes(certificate.der)
