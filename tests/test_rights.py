"""Every address of the application, asked for by everybody: nobody gets an answer without the right to it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from as2certs.accounts.models import User
from as2certs.accounts.permissions import ROLE_PERMISSIONS
from as2certs.mail import unsubscribe
from as2certs.mail.models import Message
from identities.certificates.generation import RequestedKey, generate_next, request_certificate
from partners.models import Contact, Probe, ReceivedMessage, StationBaseline
from partners.probes import async_mdns
from rotations.letters import access_links
from rotations.lifecycle import approval
from rotations.lifecycle.evidence.changeover import ObservedMessage, record_sighting
from rotations.models import Freeze, HandedIn, Link, Participant, Slot
from tests.rotations.company import NOW, Company, make_company, make_draft, partner_certificate

pytestmark = pytest.mark.django_db

#: Addresses that somebody who is not logged in may open.
OPEN = {"login", "account_login", "mfa_authenticate", "sign-on", "sign-on-return", "healthz", "readyz"}

#: Addresses for machines, which show a key, a signed token or a signed message in place of a login.
BY_KEY = {"as2-mdn", "as2-receive", "bounce-in", "mail-stop"}

#: A partner's pages: the link is the whole right to see them.
BY_LINK = {
    "portal",
    "portal-calendar",
    "portal-colleague",
    "portal-decline",
    "portal-download",
    "portal-hand-in",
    "portal-hand-in-confirm",
    "portal-capability",
    "portal-installed",
    "portal-opened",
    "portal-propose",
    "portal-report",
    "portal-slots",
    "portal-switched",
    "portal-window",
}

#: Addresses for everybody who is logged in, about themselves or about nothing secret.
EVERYBODY = {
    "home",
    "search",
    "help",
    "account",
    "password-change",
    "logout",
    "account_reauthenticate",
    "confirm-sign-on",
    "mfa_activate_totp",
    "mfa_add_webauthn",
    "mfa_deactivate_totp",
    "mfa_generate_recovery_codes",
    "mfa_index",
    "mfa_list_webauthn",
    "mfa_reauthenticate",
    "mfa_reauthenticate_webauthn",
    "mfa_remove_webauthn",
    "mfa_view_recovery_codes",
}

#: Every other address, with the permission it asks for.
NEEDS = {
    "demo-load": "accounts.change_installation",
    "settings": "accounts.change_installation",
    "four-eyes-agree": "accounts.change_installation",
    "four-eyes-keep": "accounts.change_installation",
    "calendar": "rotations.view_rotation",
    "audit-list": "audit.view_entry",
    "audit-export": "audit.export_entry",
    "mail-list": "mail.view_message",
    "mail-detail": "mail.view_message",
    "mail-html": "mail.view_message",
    "mail-send-again": "mail.change_message",
    "identity-list": "identities.view_identity",
    "identity-create": "identities.add_identity",
    "identity-detail": "identities.view_identity",
    "identity-update": "identities.change_identity",
    "identity-archive": "identities.change_identity",
    "identity-restore": "identities.change_identity",
    "identity-subscribe": "identities.view_identity",
    "identity-upload": "identities.add_identitycertificate",
    "identity-generate": "identities.add_certificaterequest",
    "certificate-list": "identities.view_identitycertificate",
    "certificate-detail": "identities.view_identitycertificate",
    "certificate-export": "identities.view_identitycertificate",
    "certificate-export-private": "identities.export_privatekey",
    "request-detail": "identities.view_certificaterequest",
    "request-csr": "identities.view_certificaterequest",
    "request-answer": "identities.change_certificaterequest",
    "system-list": "identities.view_as2system",
    "system-create": "identities.add_as2system",
    "system-detail": "identities.view_as2system",
    "system-update": "identities.change_as2system",
    "system-check": "identities.change_as2system",
    "system-baseline": "identities.change_as2system",
    "system-archive": "identities.change_as2system",
    "system-restore": "identities.change_as2system",
    "difference-adopt": "rotations.approve_rotation",
    "partner-list": "partners.view_partner",
    "partner-create": "partners.add_partner",
    "partner-import": "partners.add_partner",
    "partner-detail": "partners.view_partner",
    "partner-update": "partners.change_partner",
    "partner-archive": "partners.change_partner",
    "partner-restore": "partners.change_partner",
    "partner-subscribe": "partners.view_partner",
    "partner-upload": "partners.add_partnercertificate",
    "contact-create": "partners.add_contact",
    "contact-update": "partners.change_contact",
    "contact-delete": "partners.delete_contact",
    "contact-confirm": "partners.change_contact",
    "contact-doubt": "partners.change_contact",
    "contact-take-on": "partners.change_contact",
    "contact-dismiss": "partners.change_contact",
    "contact-works-again": "partners.change_contact",
    "partner-certificate-list": "partners.view_partnercertificate",
    "partner-certificate-detail": "partners.view_partnercertificate",
    "partner-certificate-export": "partners.view_partnercertificate",
    "partnership-create": "partners.add_partnership",
    "partnership-archive": "partners.change_partnership",
    "partnership-restore": "partners.change_partnership",
    "partnership-probes": "rotations.change_rotation",
    "partnership-probes-allow": "rotations.change_rotation",
    "partnership-probes-schedule": "rotations.change_rotation",
    "partnership-probes-forbid": "rotations.change_rotation",
    "probe-detail": "rotations.view_rotation",
    "probe-download": "rotations.view_rotation",
    "received-message-detail": "rotations.view_rotation",
    "partner-seen": "rotations.change_rotation",
    "freeze-list": "rotations.view_freeze",
    "freeze-create": "rotations.add_freeze",
    "freeze-update": "rotations.change_freeze",
    "freeze-delete": "rotations.delete_freeze",
    "rotation-paper": "rotations.view_rotation",
    "rotation-report": "rotations.view_rotation",
    "rotation-report-pdf": "rotations.view_rotation",
    "rotation-report-draw": "rotations.view_rotation",
    "rotation-announcing": "rotations.view_rotation",
    "rotation-announcing-cancel": "rotations.change_rotation",
    "rotation-announcing-resume": "rotations.change_rotation",
    "rotation-list": "rotations.view_rotation",
    "rotation-create": "rotations.add_rotation",
    "rotation-detail": "rotations.view_rotation",
    "rotation-live": "rotations.view_rotation",
    "rotation-preview": "rotations.add_rotation",
    "rotation-update": "rotations.change_rotation",
    "rotation-approve": "rotations.approve_rotation",
    "rotation-postpone": "rotations.change_rotation",
    "rotation-following": "rotations.change_rotation",
    "rotation-cancel": "rotations.change_rotation",
    "rotation-emergency": "rotations.approve_rotation",
    "rotation-switch-now": "rotations.change_rotation",
    "rotation-close": "rotations.change_rotation",
    "rotation-roll-back": "rotations.change_rotation",
    "rotation-name-rehearsal": "rotations.change_rotation",
    "rotation-waive-rehearsal": "rotations.approve_rotation",
    "rotation-announce": "rotations.change_rotation",
    "rotation-slots": "rotations.change_rotation",
    "rotation-slots-withdraw": "rotations.change_rotation",
    "slot-take": "rotations.change_rotation",
    "rotation-together": "rotations.change_rotation",
    "rotation-print": "rotations.view_rotation",
    "rotation-steps-done": "rotations.change_rotation",
    "rotation-step-retry": "rotations.change_rotation",
    "rotation-step-repeat": "rotations.change_rotation",
    "rotation-step-preview": "rotations.view_rotation",
    "rotation-step-done": "rotations.change_rotation",
    "rotation-step-skip": "rotations.change_rotation",
    "participant-detail": "rotations.view_rotation",
    "participant-stay": "rotations.change_rotation",
    "participant-capability": "rotations.change_rotation",
    "rotation-plan": "rotations.change_rotation",
    "partner-keeps-both": "partners.change_partner",
    "participant-move": "rotations.change_rotation",
    "participant-take-back": "rotations.change_rotation",
    "participant-share": "rotations.change_rotation",
    "participant-announcement": "rotations.change_rotation",
    "participant-announcement-html": "rotations.change_rotation",
    "participant-announcement-file": "rotations.change_rotation",
    "participant-to-oneself": "rotations.change_rotation",
    "link-revoke": "rotations.change_rotation",
    "link-renew": "rotations.change_rotation",
    "phrase-list": "accounts.change_installation",
    "phrase-update": "accounts.change_installation",
    "phrase-reset": "accounts.change_installation",
    "partner-phrase-list": "partners.change_partner",
    "partner-phrase-update": "partners.change_partner",
    "partner-phrase-reset": "partners.change_partner",
    "participant-confirm": "rotations.change_rotation",
    "participant-as-partner": "rotations.view_rotation",
    "participant-nudge": "rotations.change_rotation",
    "participant-remove": "rotations.change_rotation",
    "participant-restore": "rotations.change_rotation",
    "participant-waive": "rotations.change_rotation",
    "partner-ask": "rotations.change_rotation",
    "partner-ask-html": "rotations.change_rotation",
    "partner-hand-in-link": "rotations.change_rotation",
    "mail-bounced": "mail.change_message",
    "sighting-dismiss": "rotations.change_rotation",
    "handed-in-accept": "rotations.change_rotation",
    "handed-in-refuse": "rotations.change_rotation",
}

#: What stands in addresses beside public ids.
NAMED = {"kind": "nudge", "name": "change.ics", "part": "request"}


def patterns(resolver: URLResolver) -> Iterator[URLPattern]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLPattern):
            yield entry
        elif entry.namespace != "admin":  # the admin has its own walk below
            yield from patterns(entry)


def names() -> set[str]:
    return {pattern.name or repr(pattern) for pattern in patterns(get_resolver())}


def test_every_address_is_in_the_table() -> None:
    assert names() == OPEN | BY_KEY | BY_LINK | EVERYBODY | set(NEEDS)


class World:
    """One object of each kind, to put its public id into addresses."""

    def __init__(self) -> None:
        company = make_company(now=NOW)
        rotation = approval.approve(make_draft(company, starts=NOW + timedelta(hours=2)), by=company.approver, now=NOW)
        partner = company.partners[0]
        theirs = partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=99))
        key = RequestedKey("csr", 2048, "sha256", 365, {"common_name": "ACME"}, ["sign"])
        request = request_certificate(company.identity, key, by=company.by, now=NOW)
        generate_next(now=NOW)
        message = Message.objects.create(
            key="k",
            kind="test",
            to_address="a@example.com",
            subject="s",
            text="t",
            html="<p>t</p>",
            message_id="<m@x>",
            created_at=NOW,
            due_at=NOW,
        )
        contact = Contact.objects.create(partner=partner, name="Dave", email="dave@example.com")
        handed = HandedIn.objects.create(
            partner=partner, certificate=theirs, roles=["verify"], submitted_by="Dave", at=NOW
        )
        assert company.system is not None
        self.objects: dict[str, Any] = {
            "handed-in": handed,
            "identity": company.identity,
            "certificate": company.old,
            "request": request,
            "system": company.system,
            "difference": StationBaseline.objects.create(system=company.system, partner=partner, due_at=NOW),
            "partner": partner,
            "contact": contact,
            "partner-certificate": theirs,
            "partnership": partner.partnerships.get(),
            "probe": Probe.objects.create(
                partnership=partner.partnerships.get(),
                signing_certificate=company.old,
                encryption_certificate=theirs,
                created_at=NOW,
                request=zlib.compress(b"a request"),
            ),
            "received-message": ReceivedMessage.objects.create(
                partnership=partner.partnerships.get(), message_id="<1@x>", state="done", created_at=NOW
            ),
            "rotation": rotation,
            "rotation-step": rotation.steps.first(),
            "participant": rotation.participants.first(),
            "freeze": Freeze.objects.create(name="Christmas", first=NOW.date(), last=NOW.date(), zone="UTC"),
            "mail": message,
            "sighting": record_sighting(partner, ObservedMessage("signed", "0x1A2B", NOW), by=company.by, now=NOW),
        }
        rotation.bulk_announcements.create(state="cancelled", created_at=NOW, finished_at=NOW)
        self.company: Company = company
        self.token = self._link(self.objects["participant"])
        self.objects["link"] = Link.objects.get()
        self.objects["slot"] = Slot.objects.create(
            rotation=rotation, start=NOW + timedelta(days=1), end=NOW + timedelta(days=2), zone="UTC"
        )

    def _link(self, participant: Participant) -> str:
        """Make a link to a partner's page that was used before, so that looking at it is nothing new."""
        fresh = access_links.create_link(
            participant.partner, participant=participant, contact=None, by=self.company.by, now=NOW
        )
        Link.objects.filter(pk=fresh.link.pk).update(fetched_at=NOW, opened_at=NOW, last_address="127.0.0.1")
        looks = ("fetched_at", "opened_at", "file_fetched_at", "downloaded_at")
        Participant.objects.filter(pk=participant.pk).update(**dict.fromkeys(looks, NOW))
        return fresh.url.rstrip("/").rsplit("/", 1)[1]

    def address(self, name: str) -> str:
        """Return the address by this name, filled in with the object whose name it begins with, the longest match."""
        fitting = [kind for kind in self.objects if name.startswith(f"{kind}-")]
        if name == "contact-create":
            fitting = ["partner"]  # a contact is made at its partner
        pattern = next(p for p in patterns(get_resolver()) if p.name == name)
        wanted = pattern.pattern.converters
        if not wanted:
            return reverse(name)
        if name == "mail-stop":
            return reverse(name, args=[unsubscribe.unsubscribe_token(self.objects["mail"])])
        if name == "as2-mdn":
            return urlsplit(async_mdns.mdn_url(self.objects["probe"])).path
        if name in BY_LINK:
            return reverse(name, kwargs={**dict.fromkeys(wanted, "pem"), "token": self.token})
        if name == "mfa_remove_webauthn":
            return reverse(name, args=[1])
        given = {key: word for key, word in NAMED.items() if key in wanted}
        uids = {key: self.objects[max(fitting, key=len)].uid for key in wanted.keys() - given.keys()}
        return reverse(name, kwargs=given | uids)


def client_for(role: str) -> Client:
    user = User.objects.create_user(f"a {role}", f"{role}@example.com", "a long password")
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


def test_nobody_gets_in_without_logging_in() -> None:
    world = World()
    client = Client()
    for name in sorted(EVERYBODY | set(NEEDS)):
        for method in (client.get, client.post):
            answer = method(world.address(name))
            shut_out = answer.status_code == 302 and answer["Location"].startswith(reverse("login"))
            # Logging out or loading by GET is refused before anybody is asked who they are.
            assert shut_out or answer.status_code in (403, 405), (name, method, answer.status_code)


@pytest.mark.parametrize("role", sorted(ROLE_PERMISSIONS))
def test_a_role_reaches_what_it_has_the_right_to_and_nothing_else(role: str) -> None:
    world = World()
    client = client_for(role)
    for name, permission in sorted(NEEDS.items()):
        address = world.address(name)
        answers = {"GET": client.get(address).status_code}
        if permission not in ROLE_PERMISSIONS[role]:
            answers["POST"] = client.post(address).status_code
            assert set(answers.values()) <= {403, 405}, (role, name, answers)
            assert 403 in answers.values(), (role, name, answers)
        else:
            assert answers["GET"] in (200, 302, 405), (role, name, answers)


@pytest.mark.parametrize("role", ["viewer", "operator", "approver"])
def test_the_admin_is_shut_for_people_who_are_not_staff(role: str) -> None:
    answer = client_for(role).get(reverse("admin:index"))
    assert answer.status_code == 302
    assert "login" in answer["Location"]
