"""The pages of identities' certificates: list, detail, downloads, and export of the private key."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs7, pkcs12
from django.db import connection
from django.template import RequestContext
from django.test import Client
from django.urls import reverse

from as2certs import pki, text_index
from as2certs.accounts.models import User
from identities.filters import CertificateFilter
from identities.models import IdentityCertificate
from tests.inventory import (
    NOW,
    PASSWORD,
    add_certificate,
    client_of,
    count_queries,
    listed_names,
    make_identity,
    make_partner,
    start_rotation,
    trail,
    verbs,
)
from tests.people import confirm

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

LIST = "/certificates/"


def page(client: Client, certificate: Any) -> Any:
    return client.get(certificate.get_absolute_url())


# --- The list -------------------------------------------------------------------------------------------------


def test_the_list_shows_those_in_use_that_end_first_on_top(operator: Client) -> None:
    later = add_certificate(make_identity("LATER"), days=300)
    identity = make_identity("SOON")
    soon = add_certificate(identity, days=20)
    unused = add_certificate(identity, days=500)
    assert listed_names(operator, LIST) == [str(soon), str(later)]
    assert listed_names(operator, LIST, serves="no") == [str(unused)]
    assert listed_names(operator, LIST, serves="all") == [str(soon), str(later), str(unused)]


def test_the_list_is_filtered_by_role_and_environment(operator: Client) -> None:
    signing = add_certificate(make_identity("PROD"), roles=("sign",))
    both = add_certificate(make_identity("TEST", environment="test"), days=40)
    assert listed_names(operator, LIST, serves="decrypt") == [str(both)]
    assert listed_names(operator, LIST, environment="production") == [str(signing)]
    assert listed_names(operator, LIST, expires="30") == [str(signing)]


def test_a_certificate_is_found_by_fingerprint_and_serial_in_any_notation(operator: Client) -> None:
    certificate = add_certificate(make_identity("ONE"))
    add_certificate(make_identity("OTHER"), days=33)
    whole = pki.format_fingerprint(certificate.sha256)
    serial = certificate.material.description.serial_hex
    for words in (
        whole,
        whole.lower(),
        whole.replace(":", " "),
        f"sha256 Fingerprint={whole}",
        certificate.sha256[:12],
        pki.format_fingerprint(certificate.sha1),
        serial,
        certificate.serial,
        "one",
    ):
        assert listed_names(operator, LIST, q=words) == [str(certificate)], words


def test_a_certificate_is_found_by_its_station(operator: Client) -> None:
    identity, partner = make_identity("Contoso"), make_partner("Fabrikam")
    for station in (identity, partner):
        type(station).objects.filter(pk=station.pk).update(as2_id=f"{station.name}-AS2")
    ours, theirs = add_certificate(identity), add_certificate(partner)
    add_certificate(make_identity("OTHER"), days=33)
    add_certificate(make_partner("ANOTHER"), days=33)
    theirs_list = reverse("partner-certificate-list")
    for words in ("contoso", "Contoso-AS2"):
        assert listed_names(operator, LIST, q=words) == [str(ours)]
        assert listed_names(operator, theirs_list, q=words) == []
    for words in ("fabri", "KAM-as2"):
        assert listed_names(operator, theirs_list, q=words) == [str(theirs)]


@pytest.mark.on_postgres
def test_a_search_that_finds_many_scans_the_table_once_and_keeps_the_order_of_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later, sooner = (
        add_certificate(make_identity("ACME"), days=90),
        add_certificate(make_identity("ACME-2"), days=40),
    )
    add_certificate(make_identity("OTHER"), days=60)
    monkeypatch.setattr(text_index, "MAX_FOUND", 1)
    found = CertificateFilter({"q": "acme"}, queryset=IdentityCertificate.objects.light()).qs
    rows = found.order_by("not_after", "id")[:50]
    assert list(rows) == [sooner, later]
    if connection.vendor == "sqlite":  # PostgreSQL's plan depends on how much there is
        plan = rows.explain()
        assert "SCAN identities_identitycertificate USING INDEX identities_by_expiry" in plan
        assert "TEMP B-TREE FOR ORDER BY" not in plan


@pytest.mark.on_postgres
def test_a_search_for_nothing_there_says_so(operator: Client) -> None:
    add_certificate(make_identity())
    assert "No certificate is like that" in operator.get(LIST, {"q": "zz%_\\'\""}).content.decode()


def test_both_lists_of_certificates_link_to_each_other(operator: Client) -> None:
    assert reverse("partner-certificate-list") in operator.get(LIST).content.decode()
    assert f'href="{LIST}"' in operator.get(reverse("partner-certificate-list")).content.decode()


def test_a_longer_list_takes_no_more_queries(operator: Client) -> None:
    add_certificate(make_identity("ONE"))
    few = count_queries(lambda: operator.get(LIST))
    for number in range(10):
        add_certificate(make_identity(f"ID-{number}"), days=30 + number)
    assert count_queries(lambda: operator.get(LIST)) == few


def test_the_cells_of_a_page_take_no_queries_of_their_own(operator: Client) -> None:
    asked = []

    def contexts() -> int:
        with mock.patch.object(
            RequestContext, "bind_template", autospec=True, side_effect=RequestContext.bind_template
        ) as binding:
            operator.get(LIST)
            return binding.call_count

    for number in range(5):
        add_certificate(make_identity(f"ID-{number}"), days=30 + number)
        asked.append(contexts())
    assert len(set(asked)) == 1


def test_each_cell_names_its_column_for_narrow_screens(operator: Client) -> None:
    add_certificate(make_identity("ONE"))
    text = operator.get(LIST).content.decode()
    assert re.findall(r'<td data-label="([^"]*)" >', text) == [
        "Certificate",
        "Holder",
        "Fingerprint",
        "Key",
        "In use as",
        "Ends",
    ]


# --- One of them ----------------------------------------------------------------------------------------------


def test_the_page_shows_the_roles_of_a_certificate_and_when(operator: Client) -> None:
    identity = make_identity()
    certificate = add_certificate(identity)
    identity.service.filter(role="sign").update(ends_at=NOW)
    answer = page(operator, certificate)
    assert [(row.role, row.ends_at) for row in answer.context["service"]] == [
        ("sign", NOW),
        ("decrypt", None),
    ]
    assert answer.context["roles"] == ["decrypt"]


def test_the_page_shows_the_findings(operator: Client) -> None:
    ours = add_certificate(make_identity(), days=20, name="SHARED")
    add_certificate(make_partner(), days=20, name="SHARED")
    codes = {finding.code for finding in page(operator, ours).context["findings"]}
    assert len(codes) >= 1


def test_a_running_rotation_is_opened_instead_of_started_twice(operator: Client) -> None:
    identity = make_identity()
    certificate = add_certificate(identity)
    assert "Start rotation" in page(operator, certificate).content.decode()
    rotation = start_rotation(identity, certificate)
    shown = page(operator, certificate).content.decode()
    assert "Start rotation" not in shown
    assert rotation.get_absolute_url() in shown


# --- Its files ------------------------------------------------------------------------------------------------


def export(client: Client, certificate: Any, form: str) -> Any:
    return client.get(reverse("certificate-export", args=[certificate.uid]), {"format": form})


def test_the_public_part_comes_in_each_format(viewer: Client) -> None:
    certificate = add_certificate(make_identity(name='Our "shop" / EU'))
    der = bytes(certificate.der)
    pem, cer, p7b = (export(viewer, certificate, form).content for form in ("pem", "der", "p7b"))
    assert pki.to_der(x509.load_pem_x509_certificate(pem)) == der
    assert cer == der
    assert [pki.to_der(one) for one in pkcs7.load_pem_pkcs7_certificates(p7b)] == [der]
    packed = zipfile.ZipFile(io.BytesIO(export(viewer, certificate, "zip").content))
    assert {name.rpartition(".")[2] for name in packed.namelist()} == {"pem", "cer", "p7b", "txt"}
    answer = export(viewer, certificate, "der")
    named = f'attachment; filename="Our-shop-EU-{certificate.sha256[:8]}.cer"'
    assert answer["Content-Disposition"] == named


def test_an_unknown_format_is_not_there(viewer: Client) -> None:
    certificate = add_certificate(make_identity())
    assert export(viewer, certificate, "exe").status_code == 404


# --- Its private key ------------------------------------------------------------------------------------------


def export_private_key(client: Client, certificate: Any, **fields: str) -> Any:
    """Reauthenticate with a password, and export the key."""
    confirm(client, PASSWORD)
    typed = {
        "reason": "move to the new server",
        "form": "pkcs12",
        "password": "of the file, long",
        "password_again": "of the file, long",
        **fields,
    }
    return client.post(reverse("certificate-export-private", args=[certificate.uid]), typed)


@pytest.mark.parametrize("form", ["pkcs12", "pkcs12-legacy"])
def test_an_administrator_exports_a_key_as_pkcs12(administrator: Client, form: str) -> None:
    certificate = add_certificate(make_identity())
    answer = export_private_key(administrator, certificate, form=form)
    key, leaf, _ = pkcs12.load_key_and_certificates(answer.content, b"of the file, long")
    assert leaf is not None
    assert key is not None
    assert pki.to_der(leaf) == bytes(certificate.der)
    assert "no-store" in answer["Cache-Control"]
    assert answer["Content-Disposition"].endswith('.p12"')


def test_an_administrator_exports_a_key_as_encrypted_pem(administrator: Client) -> None:
    certificate = add_certificate(make_identity())
    answer = export_private_key(administrator, certificate, form="pem")
    key = load_pem_private_key(answer.content[answer.content.index(b"-----BEGIN ENC") :], b"of the file, long")
    assert pki.public_key_sha256(key) == certificate.public_key_sha256  # type: ignore[arg-type]


def test_an_export_is_recorded_with_its_reason(administrator: Client) -> None:
    certificate = add_certificate(make_identity())
    export_private_key(administrator, certificate)
    opened, exported = trail()[-2:]
    assert (opened.verb, exported.verb) == ("key.opened", "key.exported")
    assert exported.reason == "move to the new server"
    assert exported.actor == User.objects.get(username="administrator")
    assert "of the file" not in f"{exported.old}{exported.new}{exported.reason}"


@pytest.mark.parametrize("role", ["viewer", "operator", "approver"])
def test_nobody_else_exports_a_key(clock: Any, role: str) -> None:
    certificate = add_certificate(make_identity())
    client = client_of(role)
    assert export_private_key(client, certificate).status_code == 403
    address = reverse("certificate-export-private", args=[certificate.uid])
    assert address not in page(client, certificate).content.decode()
    assert "key.opened" not in verbs()


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"reason": " "}, "reason"),
        ({"password_again": "another one, long"}, "password_again"),
        ({"password": "short", "password_again": "short"}, "password"),
        ({"form": "plain"}, "form"),
    ],
)
def test_missing_and_wrong_values_are_reported_at_their_fields(
    administrator: Client, fields: dict[str, str], at: str
) -> None:
    certificate = add_certificate(make_identity())
    answer = export_private_key(administrator, certificate, **fields)
    assert list(answer.context["form"].errors) == [at]
    assert "key.exported" not in verbs()


def test_a_certificate_whose_key_is_not_here_says_so(administrator: Client) -> None:
    certificate = add_certificate(make_identity(), with_key=False)
    assert export_private_key(administrator, certificate).status_code == 302
    assert IdentityCertificate.objects.get().private_key is None


def test_the_page_shows_no_password_and_is_not_kept_by_the_browser(administrator: Client) -> None:
    certificate = add_certificate(make_identity())
    answer = export_private_key(administrator, certificate, reason="", password="of the file, long")
    assert "of the file, long" not in answer.content.decode()
    assert PASSWORD not in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
