"""The page that imports a list: a trial run first, then the import of the same files."""

from __future__ import annotations

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from partners.models import Partner, PartnerCertificate
from tests.certificates import key_pem, make_pair
from tests.partners.importing.test_apply import make_list, make_zip, pem

pytestmark = pytest.mark.django_db

ROW = "Northwind,NORTHWIND,,,,,,,,n.pem,"


def send(client: Client, data: bytes, packed_files: bytes = b"", **more: str) -> HttpResponse:
    files = {"list_file": SimpleUploadedFile("partners.csv", data)}
    if packed_files:
        files["certificates_file"] = SimpleUploadedFile("certificates.zip", packed_files)
    headers = {"HX-Request": "true"} if more.pop("htmx", "") else {}
    return client.post(reverse("partner-import"), {**files, **more}, headers=headers)  # type: ignore[return-value]


def shown(response: HttpResponse) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def button(response: HttpResponse) -> str:
    found = re.search(r'name="store" value="([0-9a-f]{64})"', response.content.decode())
    return found[1] if found else ""


def test_it_shows_the_result_of_a_trial_run_and_then_stores_it(operator: Client) -> None:
    archive = make_zip(**{"n.pem": pem("NORTHWIND")}).getvalue()
    looked = send(operator, make_list(ROW), archive)
    assert "New would be: 1 partner, no contacts, no partnerships and 1 certificate. Used at once: 1." in shown(looked)
    assert not Partner.objects.exists()
    done = send(operator, make_list(ROW), archive, store=button(looked))
    assert done.status_code == 302
    assert PartnerCertificate.objects.get().partner.name == "Northwind"
    assert Entry.objects.get(verb="inventory.imported").source == "web"
    again = send(operator, make_list(ROW), archive)
    assert "Nothing of it is new" in shown(again)
    assert not button(again)


def test_other_files_than_those_of_the_trial_run_are_not_stored(operator: Client) -> None:
    seen = button(send(operator, make_list("A,A,,,,,,,,,")))
    other = send(operator, make_list("B,B,,,,,,,,,"), store=seen)
    assert "What it would do" in shown(other)
    assert not Partner.objects.exists()


def test_htmx_gets_the_result_alone(operator: Client) -> None:
    looked = send(operator, make_list("A,A,,,,,,,,,"), htmx="yes")
    assert looked.content.decode().lstrip().startswith('<div id="import-result"')
    done = send(operator, make_list("A,A,,,,,,,,,"), store=button(looked), htmx="yes")
    assert done.headers["HX-Redirect"] == reverse("partner-list")


def test_errors_are_shown_without_a_button_to_store(operator: Client) -> None:
    key = make_zip(**{"n.pem": key_pem(make_pair("NORTHWIND")[1])}).getvalue()
    response = send(operator, make_list("<b>A</b>,A,,,,,,,GLOBEX,,", ROW), key)
    assert "2 of 2 rows have errors, so nothing is stored" in shown(response)
    assert "The file holds a private key" in shown(response)
    assert not button(response)
    assert b"PRIVATE KEY-----" not in response.content


@pytest.mark.parametrize(
    ("data", "archive", "why"),
    [
        (b"", b"", "is empty"),
        (b"nothing", b"", "no column"),
        (b"name,as2_id\nA,A", b"no zip", "neither a folder nor a ZIP"),
        (b"x" * (1024 * 1024 + 1), b"", "larger than 1 MiB"),
    ],
)
def test_unreadable_files_are_reported(operator: Client, data: bytes, archive: bytes, why: str) -> None:
    assert why in shown(send(operator, data, archive))


def test_it_requires_the_permission_to_add_partners(viewer: Client, operator: Client) -> None:
    assert viewer.get(reverse("partner-import")).status_code == 403
    assert send(viewer, make_list("A,A,,,,,,,,,")).status_code == 403
    assert reverse("partner-import") in operator.get(reverse("partner-list")).content.decode()
    assert reverse("partner-import") not in viewer.get(reverse("partner-list")).content.decode()
