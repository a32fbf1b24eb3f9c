"""Certificates that a partner submits by its link."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from as2certs.audit.recording import Actor
from partners.models import Contact, Partner, PartnerCertificate
from rotations.exchange.submitted_certificates import Submission, submit
from rotations.letters import access_links
from rotations.models import Link
from tests.certificates import cert_pem, make_pair
from tests.rotations.company import NOW, Company, partner_certificate

BOTH = ("verify", "encrypt")
NORA = Actor(name="Nora North (Northwind)", source="portal", address="198.51.100.7")


def make_pem(name: str = "NORTHWIND-2", *, days: float = 700, **options: Any) -> bytes:
    """Return a certificate in PEM, valid since yesterday and for so many days."""
    given = {"not_before": NOW - timedelta(days=1), "not_after": NOW + timedelta(days=days), **options}
    return cert_pem(make_pair(name, **given)[0])


def put_in_use(company: Company, partner: Partner, *, days: float = 20) -> PartnerCertificate:
    """Use a certificate of a partner in both roles."""
    return partner_certificate(partner, by=company.by, now=NOW, ends=NOW + timedelta(days=days))


def link_to(partner: Partner, contact: Contact | None = None, *, now: datetime = NOW) -> Link:
    """Create a link by which a partner submits its certificate."""
    by = Actor(name="Alice", source="web")
    return access_links.create_link(partner, participant=None, contact=contact, by=by, now=now).link


def submit_new(
    partner: Partner,
    data: bytes | None = None,
    *,
    roles: tuple[str, ...] = BOTH,
    link: Link | None = None,
    by: Actor = NORA,
    now: datetime = NOW,
) -> Submission:
    """Submit a certificate of a partner by its first contact's link."""
    link = link or link_to(partner, partner.contacts.first())
    return submit(partner, data or make_pem(), roles=roles, link=link, by=by, now=now)
