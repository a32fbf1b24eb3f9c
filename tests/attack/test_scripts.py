"""Names, notes, AS2 IDs and reasons that would be HTML, mail headers or log lines: they stay text everywhere."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail.delivery import build_email
from as2certs.mail.models import Message
from as2certs.mail.outbox import Mail, queue
from identities.models import AS2System, Identity
from partners.models import Contact, Partner, Partnership, ReceivedMessage
from rotations.lifecycle import endings
from rotations.models import Rotation, Step
from tests.attack.addresses import everywhere, root_client
from tests.inventory import make_identity
from tests.rotations.company import NOW, own_certificate
from tests.test_rights import World

pytestmark = pytest.mark.django_db

#: Breaks out of text, attributes, scripts, and templates; the AS2 ID may hold no quotation mark.
EVIL = "x'\"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 70000|add:7 }}\u202etxt"
EVIL_ID = "x'><script>alert(1)</script><img src=x onerror=alert(2)>"
TRACES = ("<script>alert", "<img src=x", 'onerror=alert(2)>"', "70007")


@pytest.fixture
def world(settings: LazySettings, tmp_path: object) -> World:
    """One object of each kind, with every text in it hostile."""
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    world = World()
    for partner in Partner.objects.all():
        Partner.objects.filter(pk=partner.pk).update(as2_id=f"{partner.pk}{EVIL_ID}")
    Identity.objects.update(as2_id=EVIL_ID)
    for model in (Identity, Partner):
        model.objects.update(name=EVIL[:120], notes=EVIL, url="https://x.example/'><script>alert(1)")
    Identity.objects.update(
        organization=EVIL[:64],
        organizational_unit=EVIL[:64],
        locality=EVIL,
        state=EVIL,
        email="a@example.com",
    )
    AS2System.objects.update(name=EVIL[:120], notes=EVIL, check_message=EVIL, check_ok=False, checked_at=NOW)
    Contact.objects.update(name=EVIL[:120], job=EVIL[:120], phone=EVIL[:40], notes=EVIL)
    Partnership.objects.update(notes=EVIL)
    Rotation.objects.update(notes=EVIL)
    Step.objects.update(title=EVIL, why=EVIL, note=EVIL, error=EVIL)
    User.objects.update(first_name=EVIL[:150], last_name=EVIL[:150])
    Installation.objects.update_or_create(pk=1, defaults={"name": EVIL[:120]})
    facts = {"signer": {"issuer": EVIL, "serial": "1"}, "recipients": [EVIL], "weaknesses": [EVIL], "mic": EVIL}
    ReceivedMessage.objects.update(
        message_id=EVIL,
        sentence=EVIL,
        next_step=EVIL,
        error=EVIL,
        facts=facts,
        problem="x",
        mdn_url=EVIL,
        state="failed",
    )
    Message.objects.update(subject=EVIL, text=EVIL, to_name=EVIL, error=EVIL)
    by = Actor(name=EVIL, source="web")
    identity = Identity.objects.get(pk=world.company.identity.pk)
    evil = own_certificate(identity, by=by, now=NOW, ends=NOW + timedelta(days=20), name=EVIL[:64])
    world.objects["certificate"] = evil
    endings.cancel(Rotation.objects.get(pk=world.objects["rotation"].pk), reason=EVIL, by=by, now=NOW)
    assert Entry.objects.filter(actor_name=EVIL, reason=EVIL).exists()
    return world


def test_no_text_of_anybody_is_html_on_any_page(world: World) -> None:
    client = root_client()
    seen = 0
    for name, address in everywhere(world).items():
        if name in ("readyz", "mail-html"):
            continue
        answer = client.get(address)
        if not answer.get("Content-Type", "").startswith("text/html"):
            continue
        text = answer.content.decode()
        assert not [trace for trace in TRACES if trace in text], name
        seen += "&lt;script&gt;" in text
    assert seen > 40


def test_what_a_search_echoes_is_no_html() -> None:
    client = root_client()
    for name in ("search", "identity-list", "partner-list", "audit-list", "mail-list", "rotation-create"):
        text = client.get(reverse(name), {"q": EVIL}).content.decode()
        assert not [trace for trace in TRACES if trace in text], name


def test_downloads_have_names_that_no_header_breaks_on(world: World) -> None:
    client = root_client()
    certificate = world.objects["certificate"]
    for form in ("pem", "der", "p7b", "zip"):
        answer = client.get(reverse("certificate-export", args=[certificate.uid]), {"format": form})
        disposition = answer["Content-Disposition"]
        name = disposition.removeprefix('attachment; filename="').removesuffix('"')
        assert name.replace("-", "").replace(".", "").isalnum(), disposition
        assert answer["X-Content-Type-Options"] == "nosniff"
    csr = client.get(reverse("request-csr", args=[world.objects["request"].uid]))
    assert "\n" not in csr["Content-Disposition"]
    assert csr["Content-Disposition"].count('"') == 2


def test_names_with_line_ends_add_no_header_to_a_mail() -> None:
    evil = "x\r\nBcc: evil@example.com\r\n\r\n<script>alert(1)</script>"
    identity = make_identity("ACME", name=evil[:120])
    Installation.objects.update_or_create(pk=1, defaults={"name": evil[:120]})
    mail = Mail(
        template="needs_attention",
        to="vera@example.com",
        to_name=evil,
        key="k",
        kind="test",
        now=NOW,
        time_zone="UTC",
        context={"reason": evil, "title": evil, "rotation": identity, "holder": evil, "url": "/"},
    )
    (message,) = queue([mail])
    raw = build_email(message).message()
    assert "Bcc" not in raw
    assert "evil@example.com" not in build_email(message).recipients()
    assert "\n" not in message.subject
    assert "<script>" not in message.html
