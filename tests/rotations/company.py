"""A small company for tests: one identity with the directory connector, two partners, certificates and a draft."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor
from identities.certificates.single_import import import_certificate
from identities.models import AS2System, Identity, IdentityCertificate, PairCheck
from partners.models import Contact, Partner, PartnerCertificate, Partnership
from rotations.execution import confirmations
from rotations.lifecycle import drafts
from rotations.models import Rotation
from rotations.planning.windows import Window
from tests.capabilities import keeps_both
from tests.certificates import make_pair

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHICAGO = "America/Chicago"


@dataclass
class Company:
    """A company in which Alice creates rotations and Bob approves them."""

    alice: User
    bob: User
    system: AS2System | None
    identity: Identity
    partners: list[Partner]
    old: IdentityCertificate
    new: IdentityCertificate

    @property
    def by(self) -> Actor:
        return Actor(name="Alice", source="web", user=self.alice, address="192.0.2.7")

    @property
    def approver(self) -> Actor:
        return Actor(name="Bob", source="web", user=self.bob, address="192.0.2.8")


def make_company(
    *,
    now: datetime = NOW,
    system_keeps_both: str = "yes",
    partners_keep_both: str = "yes",
    connector: str | None = "directory",
    hook: str = "",
    old_days: int = 20,
) -> Company:
    """Create a company whose identity has a certificate that expires in ``old_days``, and a successor.

    ``connector`` None: no AS2 system at all, so changes are made in the inventory alone.
    """
    alice = User.objects.create_user("alice", "alice@example.com", "a long password", time_zone="Europe/Berlin")
    bob = User.objects.create_user("bob", "bob@example.com", "a long password")
    system = connector and AS2System.objects.create(
        name="OpenAS2 production",
        connector=connector,
        config={"folder": "openas2", "hook": hook},
        **keeps_both(system_keeps_both),
    )
    identity = Identity.objects.create(name="ACME", as2_id="ACME-PROD", as2_system=system or None)
    identity.owners.add(alice)
    partners = [
        Partner.objects.create(name=name, as2_id=name.upper(), **keeps_both(partners_keep_both), time_zone=CHICAGO)
        for name in ("Fabrikam", "Northwind")
    ]
    for partner in partners:
        Partnership.objects.create(identity=identity, partner=partner)
    by = Actor(name="Alice", source="web", user=alice)
    old = own_certificate(identity, by=by, now=now, ends=now + timedelta(days=old_days))
    new = own_certificate(identity, by=by, now=now, ends=now + timedelta(days=750))
    return Company(alice, bob, system or None, identity, partners, old, new)


def own_certificate(
    identity: Identity, *, by: Actor, now: datetime, ends: datetime, name: str = "ACME-PROD"
) -> IdentityCertificate:
    leaf, key = make_pair(name, not_before=now - timedelta(days=1), not_after=ends)
    material = pki.Material(leaf=leaf, chain=(), key=key, container="pem")
    certificate: IdentityCertificate = import_certificate(
        identity, material, roles=("sign", "decrypt"), by=by, now=now
    ).certificate
    # As if it had been chosen for an earlier draft: the check costs a tenth of a second, and test_drafts.py tests it.
    PairCheck.objects.create(certificate=certificate, checked_at=now, problem="")
    return certificate


def partner_certificate(partner: Partner, *, by: Actor, now: datetime, ends: datetime) -> PartnerCertificate:
    leaf, _ = make_pair(partner.as2_id, not_before=now - timedelta(days=1), not_after=ends)
    material = pki.Material(leaf=leaf, chain=(), key=None, container="pkcs7")
    certificate: PartnerCertificate = import_certificate(
        partner, material, roles=("verify", "encrypt"), by=by, now=now
    ).certificate
    return certificate


def window(starts: datetime, *, minutes: int = 60, zone: str = CHICAGO) -> Window:
    return Window(start=starts, end=starts + timedelta(minutes=minutes), zone=zone)


def connect_many(identity: Identity, count: int) -> None:
    """Connect an identity with so many partners that can be reached."""
    made = Partner.objects.bulk_create(
        Partner(name=f"Partner {n:04} of many", as2_id=f"PARTNER-{n:04}", **keeps_both(), time_zone="America/Chicago")
        for n in range(count)
    )
    Partnership.objects.bulk_create(Partnership(identity=identity, partner=one) for one in made)
    Contact.objects.bulk_create(
        Contact(partner=one, name=f"Nora {n}", email=f"nora@p{n}.example", phone="+1 312 555 0100")
        for n, one in enumerate(made)
    )


def make_draft(company: Company, *, starts: datetime, now: datetime = NOW, minutes: int = 60) -> Rotation:
    """Create a draft for both roles, from the old certificate to the new."""
    spec = drafts.DraftSpec(
        roles=("sign", "decrypt"), old=company.old, new=company.new, window=window(starts, minutes=minutes)
    )
    return drafts.create_draft(company.identity, spec, by=company.by, now=now)


def confirm_all(rotation: Rotation, company: Company, *, now: datetime = NOW, agreed: bool = True) -> None:
    assert rotation.new is not None
    for participant in rotation.participants.all():
        confirmations.confirm_installation(
            participant,
            confirmations.PartnerAnswer("Dave", by=company.by, now=now),
            fingerprint=pki.format_fingerprint(rotation.new.sha256),
            agreed=agreed,
        )


def current_certificate_path(folder: Path, side: str, as2_id: str, role: str, link: str = "current") -> Path:
    """Return the path of a role's certificate in the folder of the directory connector."""
    return folder / "openas2" / side / as2_id / role / link / "cert.pem"
