"""A partner's page requires its link, and the link gives access to nothing else."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core import serializers
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import get_resolver, reverse

from as2certs import pki, uploads
from as2certs.accounts.models import Installation, User
from as2certs.content_security_policy import POLICY
from as2certs.vault import vault
from identities.models import Identity, PrivateKey
from partners.models import Contact, Partner
from rotations.letters import access_links
from rotations.models import Link, Participant, Rotation, Step, Tries
from rotations.web.portal import rate_limit
from rotations.web.portal.access import PortalVisit
from tests.attack.test_scripts import EVIL, EVIL_ID, TRACES
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.web.portal.conftest import ALICE, Clock
from tests.rotations.web.portal.visitor import Visitor, page_text
from tests.test_rights import patterns
from tests.test_secrets import betrayed, traces

pytestmark = pytest.mark.django_db

FILES = ("pem", "der", "p7b", "zip")
SENT = ("installed", "window", "slots", "propose", "decline", "switched", "report", "colleague")


def addresses(token: str) -> list[str]:
    """Return all URLs of a partner's page."""
    found = []
    for pattern in patterns(get_resolver()):
        wanted = pattern.pattern.converters
        if "token" in wanted:
            given = {**dict.fromkeys(wanted, "pem"), "token": token}
            found.append(reverse(str(pattern.name), kwargs=given))
    assert len(found) >= 11
    return found


# Without a valid link


def test_a_wrong_link_opens_nothing(nora: Visitor) -> None:
    for token in ("x", nora.token[:-1], nora.token + "x", nora.token.swapcase(), "%00", "é" * 40):
        for address in addresses(token):
            for method in (nora.client.get, nora.client.post):
                answer = method(address)
                assert answer.status_code in (404, 405), address
                assert "Northwind" not in answer.content.decode()


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"revoked_at": NOW, "revoked_by": "Alice"}, "This link was withdrawn"),
        ({"expires_at": NOW}, "This link ended on 23 November 2026."),
    ],
)
def test_an_expired_link_is_refused_with_a_message(nora: Visitor, columns: dict[str, object], expected: str) -> None:
    Link.objects.filter(pk=nora.link.pk).update(**columns)
    for address in addresses(nora.token):
        answer = nora.client.get(address)
        assert answer.status_code == 410, address
        assert expected in page_text(answer)
        assert "You reach us here: " in page_text(answer)
        assert "ACME-PROD" not in page_text(answer)
        assert nora.client.post(address).status_code in (405, 410)


def test_a_link_outlives_its_change_by_thirty_days(nora: Visitor, rotation: Rotation, clock: Clock) -> None:
    Rotation.objects.filter(pk=rotation.pk).update(state="closed", ended_at=NOW)
    clock.now = NOW + timedelta(days=29)
    assert nora.open().status_code == 200
    clock.now = NOW + timedelta(days=30)
    assert nora.open().status_code == 410
    assert "There is nothing left to do." in nora.text


def guessed(address: str, *, times: int) -> None:
    """Record wrong tokens from an address, as that many requests would."""
    for _ in range(times):
        rate_limit.record_wrong_token(address, now=NOW)


def test_two_hundred_wrong_tokens_lock_out_one_address_only(nora: Visitor, rotation: Rotation, clock: Clock) -> None:
    guesser = Client(REMOTE_ADDR="203.0.113.66")
    for number in range(rate_limit.MAX_WRONG_TOKENS):
        assert guesser.get(reverse("portal", args=[f"guess{number}"])).status_code == 404
    locked = guesser.get(reverse("portal", args=["guess"]))
    assert locked.status_code == 429
    assert "Too many wrong links were tried from your network." in page_text(locked)
    # A valid token is refused too, so the response reveals nothing.
    assert guesser.get(nora.address()).content == locked.content
    # Other addresses are not affected.
    assert nora.open().status_code == 200
    clock.now = NOW + rate_limit.LOCKOUT + timedelta(minutes=1)
    assert guesser.get(nora.address()).status_code == 200


def test_a_link_used_from_a_locked_out_address_before_still_works(
    nora: Visitor, visit: Callable[..., Visitor], rotation: Rotation
) -> None:
    nora.open()
    guessed(nora.client.defaults["REMOTE_ADDR"], times=rate_limit.MAX_WRONG_TOKENS)
    assert nora.client.get(reverse("portal", args=["guess"])).status_code == 429
    assert nora.open().status_code == 200
    nora.send("installed", how="word")
    assert "Thank you" in nora.text
    # Another partner behind the same proxy, that has not begun yet, has to wait.
    fay = visit(rotation.participants.get(partner__name="Fabrikam"))
    assert fay.open().status_code == 429


def test_behind_our_proxy_the_client_address_is_locked_out(nora: Visitor, settings: LazySettings) -> None:
    settings.AS2CERTS_PROXIES = [ipaddress.ip_network("10.0.0.5")]
    proxy = Client(REMOTE_ADDR="10.0.0.5")
    guessed("203.0.113.66", times=rate_limit.MAX_WRONG_TOKENS - 3)
    for number in range(3):
        # Whatever the client sends, the proxy appends the real address.
        chain = {"x-forwarded-for": f"192.0.2.{number}, 203.0.113.66"}
        proxy.get(reverse("portal", args=[f"guess{number}"]), headers=chain)
    for heard, status in (("203.0.113.66", 429), ("198.51.100.7", 200)):
        assert proxy.get(nora.address(), headers={"x-forwarded-for": heard}).status_code == status


def test_a_busy_link_is_limited_and_loses_nothing(nora: Visitor) -> None:
    nora.open()
    Tries.objects.create(
        key=f"link {nora.link.uid}", minute=NOW.replace(second=0), count=rate_limit.MAX_REQUESTS_PER_LINK
    )
    assert nora.send("installed", how="word").status_code == 429
    assert "Go back, wait a minute, and send it again." in nora.text
    assert nora.open().status_code == 200


# With a valid link


def contents(*but: str) -> dict[str, str]:
    return {
        model._meta.label: sha256(serializers.serialize("json", model._base_manager.all()).encode()).hexdigest()
        for model in apps.get_models()
        if model._meta.label not in but
    }


def columns_of(participant: Participant) -> dict[str, object]:
    return dict(Participant.objects.filter(pk=participant.pk).values().get())


def test_get_requests_record_only_fetched_links(nora: Visitor, northwind: Participant) -> None:
    before = contents()
    for address in addresses(nora.token):
        assert nora.client.head(address).status_code in (200, 302, 404), address
    assert contents() == before
    seen = columns_of(northwind)
    for address in addresses(nora.token):
        nora.client.get(address)
    now = columns_of(northwind)
    assert {name for name in now if now[name] != seen[name]} == {"fetched_at", "file_fetched_at"}
    changed = {label for label, digest in contents().items() if digest != before[label]}
    assert changed == {"rotations.Participant", "rotations.Link", "audit.Entry", "audit.Subject"}
    once = contents()
    for address in addresses(nora.token):
        nora.client.get(address)
    assert contents() == once


def test_a_cross_site_form_is_refused(nora: Visitor, northwind: Participant) -> None:
    browser = Client(enforce_csrf_checks=True, REMOTE_ADDR="198.51.100.7")
    seen = nora.open().context["seen"]
    for name in SENT:
        answer = browser.post(nora.address(f"portal-{name}"), {"seen": seen, "how": "word", "reason": "x"})
        assert answer.status_code == 403
        assert "Please send it once more" in page_text(answer)
    northwind.refresh_from_db()
    assert (northwind.evidence, northwind.declined_at) == ("", None)


def test_a_link_gives_no_access_to_pages_with_a_login(nora: Visitor) -> None:
    nora.open()
    for name in ("home", "rotation-list", "partner-list", "audit-list", "mail-list"):
        assert nora.client.get(reverse(name))["Location"].startswith(reverse("login"))
    assert "sessionid" not in nora.client.cookies


def test_a_link_can_not_answer_for_another_partner(nora: Visitor, rotation: Rotation, company: Company) -> None:
    nora.send("installed", how="proof", fingerprint=company.new.sha256)
    nora.send("decline", reason="No")
    fabrikam = rotation.participants.get(partner__name="Fabrikam")
    assert (fabrikam.evidence, fabrikam.declined_at, fabrikam.opened_at) == ("", None, None)


def test_our_own_user_can_not_pass_for_the_partner(nora: Visitor, northwind: Participant) -> None:
    nora.client.force_login(make_person("olga", "operator"))
    nora.send("installed", how="word")
    step = northwind.steps.get(act="install")
    assert step.done_by == "olga, by the link of Nora North (Northwind)"
    assert "olga, by the link of Nora North" in nora.text


def test_responses_are_private_and_have_no_referrer(nora: Visitor) -> None:
    for address in addresses(nora.token):
        answer = nora.client.get(address)
        assert "no-store" in answer["Cache-Control"], address
        assert answer["X-Robots-Tag"] == "noindex, nofollow"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["Content-Security-Policy"] == POLICY
        assert answer["X-Frame-Options"] == "DENY"
    text = nora.open().content.decode()
    foreign = [to for to in re.findall(r'(?:href|src|action)="([^"]*)"', text) if not re.match("/|#|tel:|mailto:", to)]
    assert foreign == []
    assert not re.search(r"<script(?! src=\"/static/)", text)
    assert " style=" not in text
    refused = Client().get(reverse("portal", args=["wrong"]))
    assert "no-store" in refused["Cache-Control"]


def test_no_page_and_no_download_contains_a_private_key(nora: Visitor, company: Company) -> None:
    needles = []
    for row in PrivateKey.objects.all():
        needles += traces(pki.key_from_der(vault().unseal(bytes(row.sealed))))
    assert len(needles) > 20
    seen = nora.open().content
    seen += nora.send("installed", how="proof", fingerprint="zz").content
    for address in addresses(nora.token):
        seen += nora.client.get(address).content
    for form in FILES:
        seen += nora.client.get(nora.address("portal-download", form)).content
    assert not betrayed(seen, needles)
    assert b"CERTIFICATE-----" in seen


def test_all_texts_are_escaped(nora: Visitor, northwind: Participant, company: Company) -> None:
    nora.send("decline", reason=EVIL)
    nora.send("colleague", name=EVIL[:120], phone=EVIL[:40], job=EVIL[:100])
    Installation.objects.update_or_create(pk=1, defaults={"name": EVIL[:120]})
    Partner.objects.filter(pk=northwind.partner_id).update(name=EVIL[:120], as2_id=EVIL_ID)
    Identity.objects.update(name=EVIL[:120], as2_id=EVIL_ID)
    User.objects.update(first_name=EVIL[:150], phone=EVIL[:60])
    Contact.objects.update(name=EVIL[:120])
    Link.objects.update(whose=EVIL[:120])
    Step.objects.update(title=EVIL, why=EVIL)
    Participant.objects.update(declined_reason=EVIL, proposed_note=EVIL)
    seen = nora.open().content.decode()
    for name in SENT:
        sent = dict.fromkeys(("fingerprint", "note", "reason", "phone", "job", "window_date"), EVIL)
        seen += nora.send(name, **sent, name=EVIL, email=EVIL).content.decode()
    assert "&lt;script&gt;" in seen
    assert not [trace for trace in TRACES if trace in seen]


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.extended)])
def test_malformed_input_causes_no_server_error(nora: Visitor, every: int) -> None:
    nora.client.raise_request_exception = False
    values = ("", "\x00", "9" * 3000, "٣", "9999-12-31", "0001-01-01", EVIL, "%ff")
    names = [*("fingerprint", "note", "reason", "can", "none", "act", "works", "name", "email", "phone", "how")]
    names += ("window_date", "window_from", "window_until", "window_zone", "window_last_date", "from_which")
    for number, name in enumerate(SENT):
        for value in values[number % every :: every]:
            Tries.objects.all().delete()
            answer = nora.send(name, **dict.fromkeys(names, value))
            assert answer.status_code in (200, 422), (name, value)
        assert nora.client.post(
            nora.address(f"portal-{name}"), b"--x\r\n", content_type="multipart/form-data; boundary=x"
        ).status_code in (400, 422), number


def test_a_file_of_100_mb_gets_an_error_page(nora: Visitor, northwind: Participant) -> None:
    nora.open()
    body = b"--x\r\nContent-Disposition: form-data; name=certificate_file; filename=f\r\n\r\n"
    body += b"\x00" * (uploads.MAX_REQUEST_BYTES + 1)
    answer = nora.client.post(nora.address("portal-installed"), body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    assert "the file of a certificate has at most 1 MiB" in page_text(answer)
    assert "AS2 Certs" not in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


def test_a_slightly_too_large_file_keeps_the_input(nora: Visitor) -> None:
    big = SimpleUploadedFile("cert.cer", b"\x30" * (pki.MAX_FILE_BYTES + 1))
    answer = nora.send("installed", how="proof", note="Both nodes", certificate_file=big)
    assert answer.status_code == 422
    assert "The file is larger than 1 MiB" in nora.text
    assert "Both nodes</textarea>" in answer.content.decode()


def test_the_repr_of_a_visit_has_no_token(nora: Visitor) -> None:
    visit = PortalVisit(nora.link, nora.token, ALICE, NOW)
    assert nora.token not in repr(visit)
    assert nora.token not in repr(nora.link)


def test_the_operators_view_of_the_page_has_no_token(nora: Visitor, northwind: Participant) -> None:
    shown = log_in(make_person("vera", "viewer")).get(reverse("participant-as-partner", args=[northwind.uid]))
    assert "/p/" not in shown.content.decode()


def test_a_submission_link_shows_no_change(rotation: Rotation, northwind: Participant, clock: Clock) -> None:
    fresh = access_links.create_link(northwind.partner, participant=None, contact=None, by=ALICE, now=NOW)
    visitor = Visitor(fresh, "198.51.100.7")
    for address in addresses(visitor.token):
        for method in (visitor.client.get, visitor.client.post):
            assert "Please add the new one" not in method(address).content.decode()
