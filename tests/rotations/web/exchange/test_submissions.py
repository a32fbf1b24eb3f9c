"""The pages on which a partner submits its new certificate."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.audit.models import Entry
from partners.models import Partner, PartnerCertificate
from rotations.letters import access_links, announcements
from rotations.models import HandedIn, Link, Participant, Rotation
from tests.certificates import cert_pem, key_pem, make_pair
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.exchange.incoming import make_pem, put_in_use, submit_new
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db

PEM = "-----BEGIN CERTIFICATE-----"


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    monkeypatch.setattr("rotations.web.portal.access.database_now", lambda: NOW)
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    return NOW


@pytest.fixture
def northwind(company: Company) -> Partner:
    partner = company.partners[1]
    put_in_use(company, partner)
    return partner


@pytest.fixture
def token(company: Company, northwind: Partner) -> str:
    return token_of(northwind, company)


def token_of(partner: Partner, company: Company) -> str:
    contact = partner.contacts.first()
    url = access_links.create_link(partner, participant=None, contact=contact, by=company.by, now=NOW).url
    return url.rstrip("/").rsplit("/", 1)[1]


def page(token: str, client: Client | None = None) -> Any:
    return (client or Client()).get(reverse("portal-hand-in", args=[token]))


def bring(token: str, data: bytes = b"", **fields: Any) -> Any:
    typed: dict[str, Any] = dict(fields)
    if data:
        typed["certificate_file"] = SimpleUploadedFile("new.cer", data)
    return Client().post(reverse("portal-hand-in", args=[token]), typed, REMOTE_ADDR="198.51.100.7")


def confirm(token: str, pem: str, use: str = "both", client: Client | None = None) -> Any:
    address = reverse("portal-hand-in-confirm", args=[token])
    return (client or Client()).post(address, {"pem": pem, "use": use}, REMOTE_ADDR="198.51.100.7")


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().replace("<wbr>", "").split())


def carried(answer: Any) -> str:
    """Return the certificate that the page carries."""
    pem: str = answer.context["form"]["pem"].value()
    return pem


def test_the_page_shows_which_certificate_expires_when(token: str, northwind: Partner) -> None:
    shown = text(page(token))
    assert "Hand in your new certificate" in shown
    assert f'for signing and encryption: <span class="mono">{northwind.certificates.get().short_name}' in shown
    assert "Sun 13 Dec 2026, 06:00" in shown  # in the partner's time zone
    assert "Your certificate expires in 20 days, on 13 Dec 2026: hand in the new one." in shown


def test_opening_the_page_is_recorded_and_changes_nothing_else(token: str, northwind: Partner) -> None:
    answer = Client().get(reverse("portal", args=[token]))
    assert answer["Location"] == reverse("portal-hand-in", args=[token])
    entries = Entry.objects.count()
    assert page(token).status_code == 200
    link = Link.objects.get()
    assert (link.fetched_at, link.opened_at) == (NOW, None)  # a mail scanner does the same
    assert Client().post(reverse("portal-opened", args=[token])).status_code == 204
    assert Link.objects.get().opened_at == NOW
    assert Entry.objects.count() == entries
    assert not HandedIn.objects.exists()


def test_the_parsed_certificate_is_shown_and_not_stored(token: str, northwind: Partner) -> None:
    data = make_pem(organization="Northwind Ltd")
    shown = bring(token, data)
    d = pki.describe(pki.read_public(data).leaf)
    for fact in (
        pki.format_fingerprint(d.sha256),
        pki.format_fingerprint(d.sha1),
        "O=Northwind Ltd, CN=NORTHWIND-2",
        "itself (self-signed)",
        "RSA 2048",
        "signing and encryption: your system uses one certificate for both",
    ):
        assert fact in text(shown), fact
    assert (northwind.certificates.count(), HandedIn.objects.count()) == (1, 0)


@pytest.mark.parametrize("form", ["PEM", "DER", "PKCS#7", "pasted"])
def test_a_certificate_in_any_format_is_submitted(token: str, northwind: Partner, form: str) -> None:
    leaf = pki.read_public(make_pem()).leaf
    data = {"PEM": pki.to_pem(leaf), "DER": pki.to_der(leaf), "PKCS#7": pki.to_pkcs7(leaf)}.get(form, b"")
    answer = bring(token, data) if data else bring(token, certificate_text=pki.to_pem(leaf).decode())
    done = confirm(token, carried(answer))
    assert done["Location"] == reverse("portal-hand-in", args=[token])
    handed = HandedIn.objects.get()
    assert bytes(handed.certificate.der) == pki.to_der(leaf)
    assert (handed.roles, handed.submitted_by) == (["verify", "encrypt"], "Nora North (Northwind)")
    entry = Entry.objects.get(verb="certificate.handed_in")
    assert (entry.address, entry.source, entry.at) == ("198.51.100.7", "portal", NOW)
    assert Rotation.objects.get().state == "draft"


def test_the_page_shows_the_submission_and_the_next_step(token: str, northwind: Partner) -> None:
    client = Client()
    confirm(token, make_pem().decode(), client=client)
    shown = text(page(token, client))
    assert "Before anything uses it, we compare its fingerprint with you over another channel" in shown
    assert "being compared" in shown
    assert "We have your new certificate, and compare its fingerprint with you" in shown
    HandedIn.objects.update(accepted=True, settled_at=NOW)
    assert "accepted" in text(page(token))
    HandedIn.objects.update(accepted=False)
    assert "not accepted" in text(page(token))


def test_the_page_shows_the_expiry_of_the_certificate_in_use(token: str, northwind: Partner) -> None:
    confirm(token, make_pem().decode())
    new = HandedIn.objects.get().certificate
    HandedIn.objects.update(accepted=True, settled_at=NOW)
    northwind.service.update(certificate=new)
    shown = text(page(token))
    assert "Your certificate expires in 700 days" in shown
    assert "What we have from you" not in shown


def test_submitting_twice_stores_one(token: str, northwind: Partner) -> None:
    client = Client()
    for _ in range(2):
        assert confirm(token, make_pem().decode(), client=client).status_code == 302
    assert HandedIn.objects.count() == 1
    assert "We have this certificate already" in text(page(token, client))


def test_the_partner_chooses_the_use(token: str, northwind: Partner) -> None:
    confirm(token, make_pem().decode(), use="signing")
    assert HandedIn.objects.get().roles == ["verify"]


def test_an_unsuitable_use_is_an_error_of_its_field(token: str, northwind: Partner) -> None:
    signing = make_pem("SIGNS", usages=("digital_signature",))
    answer = bring(token, signing)
    assert answer.context["form"]["use"].value() == "signing"
    refused = confirm(token, carried(answer), use="both")
    assert refused.status_code == 422
    assert "and encryption needs keyEncipherment" in str(refused.context["form"].errors["use"])
    assert confirm(token, carried(refused), use="signing").status_code == 302


@pytest.mark.parametrize("use", ["", "everything"])
def test_an_unknown_use_is_refused(token: str, northwind: Partner, use: str) -> None:
    answer = confirm(token, make_pem().decode(), use=use)
    assert answer.status_code == 422
    assert "Say what it is for" in text(answer)
    assert not HandedIn.objects.exists()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\n", "The file is empty: export it again and choose the new file."),
        (b"\x00garbage\xff" * 9, "The file is binary data that is neither a certificate nor a key"),
        (b"x" * (2**20 + 1), "larger than 1 MiB"),
        (b"%PDF-1.7", "The file is a PDF document, not a certificate"),
    ],
)
def test_an_invalid_certificate_is_one_error_of_its_field(
    token: str, northwind: Partner, data: bytes, expected: str
) -> None:
    answer = bring(token, data)
    assert answer.status_code == 422
    (error,) = answer.context["form"].errors["certificate_file"]
    assert expected in error
    assert northwind.certificates.count() == 1


def test_no_input_and_two_inputs_have_different_errors(token: str, northwind: Partner) -> None:
    assert "or paste its text below" in text(bring(token))
    assert "give only one of them" in text(bring(token, make_pem(), certificate_text="x"))


@pytest.mark.parametrize("way", ["file", "pasted", "confirmed"])
def test_a_private_key_is_discarded_and_audited(
    token: str, northwind: Partner, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.DEBUG)
    leaf, key = make_pair("NORTHWIND-2")
    data = cert_pem(leaf) + key_pem(key)
    answer = {
        "file": lambda: bring(token, data),
        "pasted": lambda: bring(token, certificate_text=data.decode()),
        "confirmed": lambda: confirm(token, data.decode()),
    }[way]()
    assert answer.status_code == 422
    assert "nothing of it was kept, but replace that key" in text(answer)
    assert not betrayed(answer.content + caplog.text.encode(), traces(key))
    entry = Entry.objects.about(northwind).get(verb="partner.key_thrown_away")
    assert (entry.address, entry.new) == ("198.51.100.7", {})
    assert not HandedIn.objects.exists()


def test_the_certificate_is_validated_again_on_confirmation(token: str, northwind: Partner) -> None:
    answer = bring(token, make_pem())
    submit_new(northwind)
    refused_row = HandedIn.objects.get()
    HandedIn.objects.update(accepted=False, settled_at=NOW)
    done = confirm(token, carried(answer))
    assert done.status_code == 422
    assert "We did not accept this certificate" in text(done)
    assert list(HandedIn.objects.all()) == [refused_row]


def test_a_link_to_a_rotation_can_submit_too(company: Company, northwind: Partner, rotation: Rotation) -> None:
    participant = Participant.objects.select_related("partner").get(rotation=rotation, partner=northwind)
    url = announcements.share_link(participant, by=company.by, now=NOW).url
    token = url.rstrip("/").rsplit("/", 1)[1]
    assert "Back to the change" in text(page(token))
    assert confirm(token, make_pem().decode()).status_code == 302
    assert northwind.rotations.get().new == HandedIn.objects.get().certificate
    rotation.refresh_from_db()
    assert rotation.state == "exchanging"


def test_the_page_shows_nothing_about_other_partners(company: Company, token: str, northwind: Partner) -> None:
    theirs = put_in_use(company, company.partners[0], days=300)
    answer = bring(token, pki.to_pem(theirs.certificate))
    assert "belongs to another station than yours" in text(answer)
    assert "Fabrikam" not in text(answer)
    assert "Fabrikam" not in text(page(token))


@pytest.mark.parametrize("name", ["portal-hand-in", "portal-hand-in-confirm"])
def test_unknown_and_revoked_links_submit_nothing(company: Company, token: str, northwind: Partner, name: str) -> None:
    data = {"pem": make_pem().decode(), "use": "both", "certificate_text": make_pem().decode()}
    assert Client().post(reverse(name, args=["x" * 43]), data).status_code == 404
    access_links.revoke_link(Link.objects.get(), reason="leaked", by=company.by, now=NOW)
    answer = Client().post(reverse(name, args=[token]), data)
    assert answer.status_code == 410
    assert "This link was withdrawn" in text(answer)
    assert not HandedIn.objects.exists()


def test_an_expired_link_submits_nothing(company: Company, northwind: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(northwind, company)
    ends = NOW + access_links.SUBMISSION_LIFETIME
    monkeypatch.setattr("rotations.web.portal.access.database_now", lambda: ends - timedelta(seconds=1))
    assert page(token).status_code == 200
    monkeypatch.setattr("rotations.web.portal.access.database_now", lambda: ends)
    assert page(token).status_code == 410


def test_a_get_of_the_confirmation_redirects(token: str, northwind: Partner) -> None:
    answer = Client().get(reverse("portal-hand-in-confirm", args=[token]))
    assert answer["Location"] == reverse("portal-hand-in", args=[token])


def test_our_own_user_is_named_and_no_acceptance_rule_applies(company: Company, token: str, northwind: Partner) -> None:
    Partner.objects.update(accept_by_rule=True)
    northwind.contacts.update(confirmed_at=NOW)
    Link.objects.update(confirmed=True)
    confirm(token, make_pem().decode(), client=log_in(make_person("olivia", "operator")))
    handed = HandedIn.objects.get()
    assert handed.submitted_by == "olivia, by the link of Nora North (Northwind)"
    assert handed.accepted is None
    confirm(token, make_pem("NORTHWIND-3").decode())
    assert HandedIn.objects.order_by("-id")[0].accepted is True


def test_a_test_station_is_marked(token: str, northwind: Partner) -> None:
    Partner.objects.filter(pk=northwind.pk).update(environment="test")
    assert "<b>TEST</b>" in text(page(token))
    assert "<b>TEST</b>" in text(bring(token, make_pem()))


def test_a_partner_without_a_certificate_submits_its_first(company: Company) -> None:
    fabrikam = company.partners[0]
    token = token_of(fabrikam, company)
    assert "We have no certificate of yours yet: hand in your first one." in text(page(token))
    assert confirm(token, make_pem().decode()).status_code == 302
    assert PartnerCertificate.objects.get().service.count() == 0
