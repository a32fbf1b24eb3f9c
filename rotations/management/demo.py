"""A believable company to look at: everything goes through the same doors as what people do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.x509 import Certificate
from django.contrib.auth.models import Group
from django.db import transaction

from as2certs import pki
from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor
from identities.certificates.single_import import import_certificate
from identities.models import AS2System, Identity, IdentityCertificate
from partners import contacts
from partners.models import Contact, Partner, PartnerCertificate, Partnership
from rotations.errors import ActionRefused
from rotations.exchange.submitted_certificates import submit
from rotations.execution import confirmations
from rotations.letters import access_links
from rotations.lifecycle import approval, drafts, step_actions
from rotations.management import demo_exchange
from rotations.models import Freeze, Rotation
from rotations.planning.windows import Window

#: How long after loading the example rotation's window opens.
DUE_LEAD = timedelta(minutes=2)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class ExamplePartner:
    """A partner: days until its certificate ends, and how much its system holds."""

    name: str
    as2_id: str
    zone: str
    contact: str
    ends_in: int
    holds: str = "several"
    environment: str = "production"


PARTNERS = (
    ExamplePartner("Northwind Retail", "NORTHWIND-AS2", "America/Chicago", "Dana Whitfield", 412),
    ExamplePartner("Fabrikam Wholesale", "FABRIKAM", "America/New_York", "Luis Ortega", 28),
    ExamplePartner("Contoso Logistics", "CONTOSO_LOG", "Europe/London", "Priya Nair", 190),
    ExamplePartner("Alpine Dairy", "ALPINE-DAIRY", "Europe/Zurich", "Reto Gasser", 655),
    ExamplePartner("Tailspin Toys", "TAILSPIN", "America/Los_Angeles", "Kim Okafor", 12, "unknown"),
    ExamplePartner("Adventure Cycles", "ADVCYCLES", "Europe/Amsterdam", "Joost de Wit", -2, "one"),
    ExamplePartner("Wide World Importers", "WWI-EDI", "Asia/Singapore", "Mei Lin Tan", 88, "unknown"),
    ExamplePartner("Lamna Healthcare", "LAMNA", "Australia/Sydney", "Ruth Carey", 240, "one"),
    ExamplePartner("Proseware Paper", "PROSEWARE", "Europe/Warsaw", "Ewa Zielińska", 501),
    ExamplePartner("Humongous Foods", "HUMONGOUS FOODS", "America/Sao_Paulo", "Caio Prado", 55),
    ExamplePartner("Litware Freight", "LITWARE-FRT", "America/Toronto", "Noor Haddad", 131),
    ExamplePartner("Woodgrove Bank", "WOODGROVE", "Europe/Berlin", "Jonas Brandt", 3),
    ExamplePartner(
        "Northwind Retail (test)",
        "NORTHWIND-TEST",
        "America/Chicago",
        "Dana Whitfield",
        300,
        "several",
        "test",
    ),
    ExamplePartner(
        "Fabrikam Wholesale (test)", "FABRIKAM-TEST", "America/New_York", "Luis Ortega", 75, "several", "test"
    ),
)


@transaction.atomic
def load(*, now: datetime) -> Rotation:
    """Fill an empty installation, and return the rotation that applies itself two minutes after ``now`` (UTC).

    Raises ActionRefused when there is anything here already.
    """
    if Identity.objects.exists() or Partner.objects.exists():
        raise ActionRefused(
            "The example data goes into an empty installation only; here are identities or partners."
        )
    company = _DemoCompany(now)
    company.fill()
    return company.rotation


class _DemoCompany:
    """Meridian Foods, with its stations, partners and a fortnight of work."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.alice = _get_or_create_user("alice", "Alice", "Fischer", "operator")
        self.bob = _get_or_create_user("bob", "Bob", "Marchetti", "approver")
        self.by = Actor(name=str(self.alice), source="command", user=self.alice)
        self.approver = Actor(name=str(self.bob), source="command", user=self.bob)

    def fill(self) -> None:
        installation = Installation.current()
        installation.name = "Meridian Foods"
        installation.time_zone = "Europe/Berlin"
        installation.escalation_email = "edi-oncall@meridian.example"
        installation.save()
        self.systems()
        self.identities()
        self.partners()
        self.certificates()
        self.freezes()
        self.under_way()
        self.rotation = self.due_soon()
        self.waiting()
        self.handed_in()

    def systems(self) -> None:
        production, test = "production", "test"
        self.openas2 = AS2System.objects.create(
            name="OpenAS2 production",
            environment=production,
            connector="directory",
            config={"folder": "openas2-production", "hook": ""},
            overlap=AS2System.Overlap.READERS,
        )
        self.openas2_test = AS2System.objects.create(
            name="OpenAS2 test",
            environment=test,
            connector="directory",
            config={"folder": "openas2-test", "hook": ""},
            overlap=AS2System.Overlap.READERS,
        )
        self.gateway = AS2System.objects.create(
            name="Freight gateway",
            environment=production,
            connector="manual",
            overlap=AS2System.Overlap.NONE,
            notes="Keeps one certificate. Changed in its own web console by the logistics team.",
        )
        self.gateway_test = AS2System.objects.create(
            name="Freight gateway (test)",
            environment=test,
            connector="manual",
            overlap=AS2System.Overlap.READERS,
        )

    def identities(self) -> None:
        def station(name: str, as2_id: str, system: AS2System, **more: object) -> Identity:
            identity = Identity.objects.create(
                name=name,
                as2_id=as2_id,
                url=f"https://as2.meridian.example/{as2_id.lower()}",
                environment=system.environment,
                as2_system=system,
                organization="Meridian Foods GmbH",
                locality="Hamburg",
                country="DE",
                email="edi@meridian.example",
                **more,
            )
            identity.owners.add(self.alice)
            return identity

        self.retail_test = station("Retail test", "MERIDIAN-TEST", self.openas2_test)
        self.freight_test = station("Freight test", "MERIDIAN-LOG-TEST", self.gateway_test)
        self.retail = station("Retail", "MERIDIAN-PROD", self.openas2, rehearsal_identity=self.retail_test)
        self.freight = station("Freight", "MERIDIAN-LOG", self.gateway, rehearsal_identity=self.freight_test)

    def partners(self) -> None:
        self.by_name: dict[str, Partner] = {}
        for number, example in enumerate(PARTNERS):
            domain = example.as2_id.lower().replace(" ", "-").replace("_", "-") + ".example"
            partner = Partner.objects.create(
                name=example.name,
                as2_id=example.as2_id,
                url=f"https://as2.{domain}/inbound",
                environment=example.environment,
                time_zone=example.zone,
                holds=example.holds,
            )
            partner.owners.add(self.alice)
            first = example.contact.split()[0].lower()
            Contact.objects.create(
                partner=partner,
                name=example.contact,
                email=f"{first}@{domain}",
                phone=f"+1 555 01{number:02}",
                job="EDI desk",
            )
            self.by_name[example.name] = partner
        production = [p for p in self.by_name.values() if not p.is_test]
        test = [p for p in self.by_name.values() if p.is_test]
        connections = [
            (self.retail, production[:4] + production[8:10]),
            (self.freight, production[4:8] + production[10:] + production[2:3]),
            (self.retail_test, test),
            (self.freight_test, test[:1]),
        ]
        for identity, partners in connections:
            for partner in partners:
                Partnership.objects.create(identity=identity, partner=partner)

    def certificates(self) -> None:
        self.old = self.own(self.retail, ("sign", "decrypt"), ends_in=20)
        self.freight_old = self.own(self.freight, ("sign",), ends_in=44)
        self.own(self.freight, ("decrypt",), ends_in=310)
        self.own(self.retail_test, ("sign", "decrypt"), ends_in=6)
        self.rehearsal_old = self.own(self.freight_test, ("sign",), ends_in=35)
        self.own(self.freight_test, ("decrypt",), ends_in=295)
        for example in PARTNERS:
            self.theirs(self.by_name[example.name], ends_in=example.ends_in)

    def own(
        self, identity: Identity, roles: tuple[str, ...], *, ends_in: int, since: datetime | None = None
    ) -> IdentityCertificate:
        since = since or self.now + ends_in * DAY - 730 * DAY
        key = pki.generate_key(2048)
        leaf = pki.make_self_signed(
            key,
            subject=pki.CertificateSubject(
                common_name=identity.as2_id,
                organization=identity.organization,
                locality="Hamburg",
                country="DE",
            ),
            days=((self.now + ends_in * DAY) - since).days,
            roles=roles,
            now=since,
        )
        material = pki.Material(leaf=leaf, chain=(), key=key, container="generated")
        taken = import_certificate(identity, material, roles=roles, by=self.by, now=since, source="generated")
        certificate: IdentityCertificate = taken.certificate
        return certificate

    def theirs(self, partner: Partner, *, ends_in: int, since: datetime | None = None) -> PartnerCertificate:
        since = since or self.now + ends_in * DAY - 730 * DAY
        leaf = self.made(partner, since=since, ends_in=ends_in)
        material = pki.Material(leaf=leaf, chain=(), key=None, container="pem")
        taken = import_certificate(partner, material, roles=("verify", "encrypt"), by=self.by, now=since)
        certificate: PartnerCertificate = taken.certificate
        return certificate

    def made(self, partner: Partner, *, since: datetime, ends_in: int) -> Certificate:
        """Make a partner's certificate, with a key that nobody keeps."""
        return pki.make_self_signed(
            pki.generate_key(2048),
            subject=pki.CertificateSubject(common_name=partner.as2_id, organization=partner.name),
            days=((self.now + ends_in * DAY) - since).days,
            roles=("verify", "encrypt"),
            now=since,
        )

    def freezes(self) -> None:
        """Days on which nothing is changed: everywhere, and at one partner."""
        for name, partner, first, last in (
            ("Stocktaking", None, 25, 27),
            ("Move to the new warehouse", self.by_name["Alpine Dairy"], 12, 14),
        ):
            Freeze.objects.create(
                name=name,
                partner=partner,
                first=(self.now + first * DAY).date(),
                last=(self.now + last * DAY).date(),
                zone=partner.time_zone if partner else "Europe/Berlin",
            )

    def under_way(self) -> None:
        """A rotation that waits for its partners: it was rehearsed, and announced nine days ago."""
        new = self.own(self.freight, ("sign",), ends_in=774, since=self.now - 16 * DAY)
        starts = (self.now + 16 * DAY).replace(hour=20, minute=0, second=0, microsecond=0)
        rotation = self.draft(
            self.freight, self.freight_old, new, starts=starts, at=self.now - 16 * DAY, roles=("sign",)
        )
        self.rehearsed(rotation)
        rotation.refresh_from_db()
        rotation = approval.approve(rotation, by=self.approver, now=self.now - 10 * DAY)
        demo_exchange.add_partner_answers(rotation, by=self.by, now=self.now)

    def rehearsed(self, production: Rotation) -> None:
        """Its rehearsal, which is over: the freight test station got its new certificate twelve days ago."""
        then, moment = self.now - 15 * DAY, self.now - 12 * DAY
        new = self.own(self.freight_test, ("sign",), ends_in=740, since=then)
        rotation = self.draft(
            self.freight_test, self.rehearsal_old, new, starts=moment, at=then, roles=("sign",), grace=2
        )
        approval.link_rehearsal(production, rotation, by=self.by, now=then)
        rotation = approval.approve(rotation, by=self.approver, now=then)
        self.confirm(rotation, at=then + DAY)
        for step in rotation.steps.filter(automatic=False).order_by("position"):
            step.refresh_from_db()
            if step.state == "waiting":
                note = "seen in the gateway's console"
                moment = max(moment, step.earliest_at or moment) + timedelta(minutes=3)
                step_actions.complete_step(step, note=note, by=self.by, now=moment)

    def due_soon(self) -> Rotation:
        """The rotation to watch: everybody has confirmed, and it applies itself in two minutes."""
        new = self.own(self.retail, ("sign", "decrypt"), ends_in=750, since=self.now - 5 * DAY)
        rotation = self.rotate(self.retail, self.old, new, starts=self.now + DUE_LEAD, at=self.now)
        self.confirm(rotation, at=self.now)
        return rotation

    def waiting(self) -> None:
        """One partner's new certificate came in; for another's the rotation waits for it."""
        fabrikam, toys = self.by_name["Fabrikam Wholesale"], self.by_name["Tailspin Toys"]
        new = self.theirs(fabrikam, ends_in=760, since=self.now - 2 * DAY)
        self.rotate(
            fabrikam,
            fabrikam.certificates.order_by("not_after")[0],
            new,
            starts=(self.now + 9 * DAY).replace(hour=15, minute=0, second=0, microsecond=0),
            at=self.now,
        )
        wish = drafts.DraftSpec(
            roles=("verify", "encrypt"),
            old=toys.certificates.get(),
            notes="Kim promised the new certificate for the end of the week.",
        )
        drafts.create_draft(toys, wish, by=self.by, now=self.now)

    def handed_in(self) -> None:
        """A partner brought its new certificate by its page, and named a colleague: both wait for somebody here."""
        bank, retail = self.by_name["Woodgrove Bank"], self.by_name["Northwind Retail"]
        jonas, then = bank.contacts.get(), self.now - 3 * HOUR
        link = access_links.create_link(
            bank, participant=None, contact=jonas, by=self.by, now=then - 2 * DAY
        ).link
        his = Actor(name=f"{jonas.name} ({bank})", source="portal", address="203.0.113.24")
        new = pki.to_pem(self.made(bank, since=then - DAY, ends_in=760))
        submit(bank, new, roles=bank.ROLES, link=link, by=his, now=then)
        Contact.objects.create(
            partner=bank, name="Hanna Vogel", email="hanna@woodgrove.example", suggested_by=his.name
        )
        how = "called her at the number in the contract"
        contacts.confirm(retail.contacts.get(), how=how, by=self.by, now=self.now - 30 * DAY)

    def rotate(
        self,
        holder: Identity | Partner,
        old: IdentityCertificate | PartnerCertificate,
        new: IdentityCertificate | PartnerCertificate,
        *,
        starts: datetime,
        at: datetime,
    ) -> Rotation:
        rotation = self.draft(holder, old, new, starts=starts, at=at)
        return approval.approve(rotation, by=self.approver, now=at)

    def draft(
        self,
        holder: Identity | Partner,
        old: IdentityCertificate | PartnerCertificate,
        new: IdentityCertificate | PartnerCertificate,
        *,
        starts: datetime,
        at: datetime,
        roles: tuple[str, ...] = (),
        grace: int = 14,
    ) -> Rotation:
        zone = holder.time_zone if isinstance(holder, Partner) else "America/Chicago"
        wish = drafts.DraftSpec(
            roles=roles or holder.ROLES,
            old=old,
            new=new,
            window=Window(start=starts, end=starts + timedelta(hours=1), zone=zone),
            grace_days=grace,
        )
        return drafts.create_draft(holder, wish, by=self.by, now=at)

    def confirm(self, rotation: Rotation, *, at: datetime) -> None:
        assert rotation.new is not None  # given by `rotate`
        for participant in rotation.participants.select_related("partner"):
            contact = participant.partner.contacts.get()
            confirmations.confirm(
                participant,
                fingerprint=pki.format_fingerprint(rotation.new.sha256),
                agreed=True,
                spoke_with=contact.name,
                note="",
                by=self.by,
                now=at,
            )


def _get_or_create_user(username: str, first: str, last: str, role: str) -> User:
    user, is_new = User.objects.get_or_create(
        username=username,
        defaults={
            "first_name": first,
            "last_name": last,
            "email": f"{username}@meridian.example",
            "time_zone": "Europe/Berlin",
        },
    )
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
        user.groups.add(Group.objects.get(name=role))
    return user
