"""Hostile files: nothing of them stays anywhere, and each ends in a sentence."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.apps import apps
from django.core import serializers
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client
from django.urls import reverse

from as2certs import uploads
from identities.models import IdentityCertificate
from partners.models import PartnerCertificate
from tests.certificates import make_pair
from tests.inventory import make_identity, make_partner
from tests.people import log_in, make_person
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return log_in(make_person("otto", "operator"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is this test's own, and a watch on every file that is made in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(TemporaryFileUploadHandler, "new_file", _refuse)
    return tmp_path


def _refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("An upload was about to be written to a disk.")


def send(client: Client, address: str, content: bytes, *, name: str = "cert.pem", **fields: Any) -> Any:
    file = SimpleUploadedFile(name, content, "application/x-pem-file")
    return client.post(address, {"certificate_file": file, "roles": ["verify", "encrypt"], **fields})


@pytest.mark.parametrize("padding", [0, 900_000, 3_000_000], ids=["small", "large", "too large"])
@pytest.mark.parametrize("way", ["file", "text"])
def test_a_private_key_in_a_partners_upload_stays_nowhere(
    operator: Client, temporary: Path, caplog: pytest.LogCaptureFixture, padding: int, way: str
) -> None:
    caplog.set_level(logging.DEBUG)
    leaf, key = make_pair("NORTHWIND")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    content = leaf.public_bytes(Encoding.PEM) + secret + b"#" * padding
    address = reverse("partner-upload", args=[make_partner().uid])
    if way == "file":
        answer = send(operator, address, content)
    else:
        answer = operator.post(address, {"certificate_text": content.decode(), "roles": ["verify"]})
    needles = traces(key)
    assert betrayed(content, needles[1:])
    assert answer.status_code in (200, 413)
    if padding < 1_000_000:
        assert "compromised" in answer.content.decode()
    assert not betrayed(answer.content, needles)
    assert not betrayed(caplog.text.encode(), needles)
    for model in apps.get_models():
        assert not betrayed(serializers.serialize("json", model._default_manager.all()).encode(), needles), model
    assert list(temporary.iterdir()) == []
    assert not PartnerCertificate.objects.exists()


def test_a_file_of_any_size_ends_in_a_page_in_plain_words(operator: Client) -> None:
    address = reverse("partner-upload", args=[make_partner().uid])
    body = b"--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n" + b"x" * uploads.MAX_REQUEST_BYTES
    answer = operator.post(address, body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    assert "This is too large" in answer.content.decode()
    # Whoever still sends does not listen: all of it was taken, and nothing of it kept.
    assert answer.wsgi_request.read(1) == b""
    assert not answer.wsgi_request.FILES


def test_too_large_a_field_leads_to_a_page_in_plain_words(operator: Client) -> None:
    address = reverse("partner-upload", args=[make_partner().uid])
    body = b"certificate_text=" + b"x" * 3_000_000
    answer = operator.post(address, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 413
    assert "at most 1 MiB" in answer.content.decode()
    assert answer.wsgi_request.read(1) == b""


def test_too_many_fields_lead_to_a_page_in_plain_words(operator: Client) -> None:
    address = reverse("partner-upload", args=[make_partner().uid])
    body = b"&".join(b"a%d=1" % number for number in range(2500))
    answer = operator.post(address, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 400
    assert "This request can’t be read" in answer.content.decode()


def test_too_many_files_lead_to_a_page_in_plain_words(operator: Client) -> None:
    files = {f"file{number}": SimpleUploadedFile("a", b"a") for number in range(20)}
    answer = operator.post(reverse("partner-upload", args=[make_partner().uid]), files)
    assert answer.status_code == 400
    assert "This request can’t be read" in answer.content.decode()


HTML = b"<!doctype html><html><script>alert(1)</script></html>"
HOSTILE = {
    "html": HTML,
    "deep ASN.1": b"\x30\x80" * 200_000,
    "deep definite ASN.1": b"\x30\x84\x00\x0f\xff\xf0" * 150_000,
    "a length that lies": b"\x30\x88" + b"\xff" * 8 + b"x",
    "a PEM bomb": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" * 18_000,
    "begins without end": b"-----BEGIN CERTIFICATE-----\n" * 36_000,
    "a gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 1_000_000,
    "a zip": b"PK\x03\x04" + b"\x00" * 1_000_000,
    "zeroes": b"\x00" * 1_048_576,
    "PEM with <script>": b"-----BEGIN <script>alert(1)</script>-----\nQUFB\n-----END <script>alert(1)</script>-----\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_sentence_within_a_moment(operator: Client, name: str) -> None:
    for station in (make_partner(), make_identity()):
        kind = station._meta.model_name
        address = reverse(f"{kind}-upload", args=[station.uid])
        answer = send(operator, address, HOSTILE[name], name="<script>alert(1)</script>.pem", roles=station.ROLES)
        text = answer.content.decode()
        assert answer.status_code == 200
        assert "<script>alert" not in text
        assert answer.context["form"].errors
    assert not PartnerCertificate.objects.exists()
    assert not IdentityCertificate.objects.exists()


def test_a_bundle_of_very_many_certificates_is_refused(operator: Client) -> None:
    leaf, _ = make_pair("NORTHWIND")
    one = leaf.public_bytes(Encoding.PEM)
    answer = send(operator, reverse("partner-upload", args=[make_partner().uid]), one * (1_000_000 // len(one)))
    assert answer.context["form"].errors["certificate_file"]
    assert not PartnerCertificate.objects.exists()
