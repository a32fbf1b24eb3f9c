"""Generate a key and certificate, or import a CA's response to a CSR."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from identities.certificates import generation
from identities.models import CertificateRequest, Identity, IdentityCertificate
from tests.certificates import cert_pem, make_ca, make_pair, rsa_key
from tests.inventory import NOW, add_certificate, make_identity, verbs

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]


def errors(answer: Any) -> list[str]:
    return list(answer.context["form"].errors)


# --- Make a new key -------------------------------------------------------------------------------------------


def form_data(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "self_signed",
        "bits": "2048",
        "hash_name": "sha256",
        "days": "365",
        "roles": ["sign", "decrypt"],
        "common_name": "ACME-PROD",
        "organization": "ACME Ltd",
        "country": "gb",
        **fields,
    }


def generate(client: Client, identity: Identity, **fields: Any) -> Any:
    return client.post(reverse("identity-generate", args=[identity.uid]), form_data(**fields))


def test_the_form_has_the_identitys_defaults(operator: Client) -> None:
    identity = make_identity(organization="ACME Ltd", country="GB")
    form = operator.get(reverse("identity-generate", args=[identity.uid])).context["form"]
    assert (form["common_name"].value(), form["organization"].value()) == ("ACME-PROD", "ACME Ltd")


def test_a_key_is_requested_and_the_page_polls_for_it(operator: Client) -> None:
    identity = make_identity()
    answer = generate(operator, identity)
    asked = CertificateRequest.objects.get()
    assert answer["Location"] == asked.get_absolute_url()
    assert asked.subject["country"] == "GB"
    page = operator.get(asked.get_absolute_url()).content.decode()
    assert 'hx-trigger="every 1s"' in page


def test_the_page_shows_the_certificate_once_it_is_made(operator: Client) -> None:
    identity = make_identity()
    generate(operator, identity)
    generation.generate_next(now=NOW)
    asked = CertificateRequest.objects.get()
    part = operator.get(asked.get_absolute_url(), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "every 1s" not in part
    assert asked.certificate is not None
    assert asked.certificate.get_absolute_url() in part
    assert "to sign and to decrypt" in part


def test_the_page_links_to_a_new_rotation_if_a_certificate_is_in_use(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=20)
    generate(operator, identity)
    generation.generate_next(now=NOW)
    asked = CertificateRequest.objects.get()
    answer = operator.get(asked.get_absolute_url())
    assert asked.certificate is not None
    assert f"old={old.uid}&new={asked.certificate.uid}" in answer.context["rotation_url"]
    assert asked.certificate.service.count() == 0


def test_a_request_that_failed_says_why(operator: Client) -> None:
    asked = CertificateRequest.objects.create(
        identity=make_identity(), created_at=NOW, state="failed", error="There was no room for the key."
    )
    assert "There was no room for the key." in operator.get(asked.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    "fields",
    [{"days": "0"}, {"days": "1827"}, {"bits": "1024"}, {"hash_name": "sha1"}, {"common_name": " "},
     {"roles": []}, {"country": "Germany"}, {"country": "1x"}, {"country": "ß"}, {"kind": "magic"}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_an_invalid_value_is_refused_at_its_field(operator: Client, fields: dict[str, Any]) -> None:
    answer = generate(operator, make_identity(), **fields)
    assert errors(answer) == list(fields)
    assert not CertificateRequest.objects.exists()


def test_a_viewer_can_not_request_a_key(viewer: Client) -> None:
    assert generate(viewer, make_identity()).status_code == 403
    assert not CertificateRequest.objects.exists()


# --- A CA's response ------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(operator: Client) -> CertificateRequest:
    generate(operator, make_identity(), kind="csr")
    generation.generate_next(now=NOW)
    return CertificateRequest.objects.get()


def issue_certificate(csr_pem: str, *, key: Any = None, begins: float = -1, ends: float = 365) -> bytes:
    """Return a certificate of a CA for the key of a CSR, with the CA's own certificate."""
    ca, ca_key = make_ca()
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(ca.subject)
        .public_key(key.public_key() if key else csr.public_key())
        .serial_number(4711)
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .sign(ca_key, hashes.SHA256())
    )
    return cert_pem(leaf, ca)


def upload_response(client: Client, asked: CertificateRequest, data: bytes, **fields: Any) -> Any:
    given = {"answer_file": SimpleUploadedFile("answer.p7b", data), **fields}
    return client.post(reverse("request-answer", args=[asked.uid]), given)


def test_the_csr_is_downloaded_and_the_response_imported(operator: Client, waiting: CertificateRequest) -> None:
    csr = operator.get(reverse("request-csr", args=[waiting.uid]))
    assert csr["Content-Disposition"] == 'attachment; filename="Acme-Prod.csr"'
    answer = upload_response(operator, waiting, issue_certificate(csr.content.decode()))
    certificate = IdentityCertificate.objects.get()
    assert answer["Location"] == certificate.get_absolute_url()
    assert certificate.private_key == waiting.private_key
    waiting.refresh_from_db()
    assert waiting.state == "done"


def test_another_certificate_in_the_response_is_left_out_and_that_is_said(
    operator: Client, waiting: CertificateRequest
) -> None:
    other = make_pair("SOMEBODY", issuer=make_ca())[0]
    answer = upload_response(operator, waiting, cert_pem(other) + issue_certificate(waiting.csr_pem))
    assert IdentityCertificate.objects.get().private_key == waiting.private_key
    assert any("(“SOMEBODY”) were left out" in str(one) for one in get_messages(answer.wsgi_request))


def test_a_response_for_another_key_is_refused_at_its_field(operator: Client, waiting: CertificateRequest) -> None:
    answer = upload_response(operator, waiting, issue_certificate(waiting.csr_pem, key=rsa_key("another")))
    assert errors(answer) == ["answer_file"]
    waiting.refresh_from_db()
    assert waiting.state == "awaiting_ca"
    assert not IdentityCertificate.objects.exists()


def test_an_expired_response_is_refused_and_the_request_goes_on_waiting(
    operator: Client, waiting: CertificateRequest
) -> None:
    data = issue_certificate(waiting.csr_pem, begins=-30, ends=-1)
    answer = upload_response(operator, waiting, data, expired_reason="no matter")
    assert errors(answer) == ["answer_file"]
    waiting.refresh_from_db()
    assert waiting.state == "awaiting_ca"
    assert not IdentityCertificate.objects.exists()


def test_a_response_valid_later_is_not_used_before_and_leads_to_its_rotation(
    operator: Client, waiting: CertificateRequest
) -> None:
    answer = upload_response(operator, waiting, issue_certificate(waiting.csr_pem, begins=20))
    new = IdentityCertificate.objects.get()
    assert not new.service.exists()
    url = f"{reverse('rotation-create')}?identity={waiting.identity.uid}&new={new.uid}&roles=sign&roles=decrypt"
    assert answer["Location"] == url
    page = operator.get(waiting.get_absolute_url())
    assert page.context["rotation_url"] == url
    assert "It is not in use" in page.content.decode()


def test_the_csr_itself_is_refused_as_a_response(operator: Client, waiting: CertificateRequest) -> None:
    assert errors(upload_response(operator, waiting, waiting.csr_pem.encode())) == ["answer_file"]


def test_a_response_is_imported_once(operator: Client, waiting: CertificateRequest) -> None:
    data = issue_certificate(waiting.csr_pem)
    upload_response(operator, waiting, data)
    again = upload_response(operator, waiting, data)
    assert verbs().count("certificate.taken_in") == 1
    assert again.status_code in (200, 302)


def test_a_viewer_sees_the_csr_and_imports_no_response(viewer: Client, waiting: CertificateRequest) -> None:
    assert viewer.get(waiting.get_absolute_url()).status_code == 200
    assert upload_response(viewer, waiting, issue_certificate(waiting.csr_pem)).status_code == 403


def test_a_request_without_a_csr_has_none_to_download(operator: Client) -> None:
    asked = CertificateRequest.objects.create(identity=make_identity(), created_at=NOW)
    assert operator.get(reverse("request-csr", args=[asked.uid])).status_code == 404
