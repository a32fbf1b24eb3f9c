"""The inventory of the demo company: AS2 systems, identities, partners, certificates and freezes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.x509 import Certificate
from django.contrib.auth.models import Group

from as2certs import pki
from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor
from identities.capabilities import Support, answers_of
from identities.certificates.single_import import import_certificate
from identities.models import AS2System, Identity, IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate, Partnership
from rotations.models import Freeze

DAY = timedelta(days=1)


#: A product of which nothing is known, on a system that reads with two certificates.
BOTH = "other"
KEEPS_BOTH = dict.fromkeys(("decrypts_with_two", "verifies_messages_with_two", "verifies_mdns_with_two"), Support.YES)


@dataclass(frozen=True)
class ExamplePartner:
    """A partner, the days until its certificate expires, and its AS2 software; BOTH has all the answers “yes”."""

    name: str
    as2_id: str
    zone: str
    contact: str
    ends_in: int
    software: str = ""
    environment: str = "production"


PARTNERS = (
    ExamplePartner("Northwind Retail", "NORTHWIND-AS2", "America/Chicago", "Dana Whitfield", 412, BOTH),
    ExamplePartner("Fabrikam Wholesale", "FABRIKAM", "America/New_York", "Luis Ortega", 28, BOTH),
    ExamplePartner("Contoso Logistics", "CONTOSO_LOG", "Europe/London", "Priya Nair", 190, BOTH),
    ExamplePartner("Alpine Dairy", "ALPINE-DAIRY", "Europe/Zurich", "Reto Gasser", 655, BOTH),
    ExamplePartner("Tailspin Toys", "TAILSPIN", "America/Los_Angeles", "Kim Okafor", 12),
    ExamplePartner("Adventure Cycles", "ADVCYCLES", "Europe/Amsterdam", "Joost de Wit", -2, "pyas2"),
    ExamplePartner("Wide World Importers", "WWI-EDI", "Asia/Singapore", "Mei Lin Tan", 88, "mendelson"),
    ExamplePartner("Lamna Healthcare", "LAMNA", "Australia/Sydney", "Ruth Carey", 240, "files_com"),
    ExamplePartner("Proseware Paper", "PROSEWARE", "Europe/Warsaw", "Ewa Zielińska", 501, BOTH),
    ExamplePartner("Humongous Foods", "HUMONGOUS FOODS", "America/Sao_Paulo", "Caio Prado", 55, BOTH),
    ExamplePartner("Litware Freight", "LITWARE-FRT", "America/Toronto", "Noor Haddad", 131, BOTH),
    ExamplePartner("Woodgrove Bank", "WOODGROVE", "Europe/Berlin", "Jonas Brandt", 3, BOTH),
    ExamplePartner(
        "Northwind Retail (test)",
        "NORTHWIND-TEST",
        "America/Chicago",
        "Dana Whitfield",
        300,
        BOTH,
        "test",
    ),
    ExamplePartner("Fabrikam Wholesale (test)", "FABRIKAM-TEST", "America/New_York", "Luis Ortega", 75, BOTH, "test"),
)


class DemoInventory:
    """Meridian Foods, with its AS2 systems, identities, partners and certificates."""

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

    def systems(self) -> None:
        production, test = "production", "test"
        self.openas2 = AS2System.objects.create(
            name="OpenAS2 production",
            environment=production,
            connector="directory",
            config={"folder": "openas2-production", "hook": ""},
            **KEEPS_BOTH,
        )
        self.openas2_test = AS2System.objects.create(
            name="OpenAS2 test",
            environment=test,
            connector="directory",
            config={"folder": "openas2-test", "hook": ""},
            **KEEPS_BOTH,
        )
        self.gateway = AS2System.objects.create(
            name="Freight gateway",
            environment=production,
            connector="manual",
            **dict.fromkeys(KEEPS_BOTH, Support.NO),
            notes="Keeps one certificate. Changed in its own web console by the logistics team.",
        )
        self.gateway_test = AS2System.objects.create(
            name="Freight gateway (test)",
            environment=test,
            connector="manual",
            **KEEPS_BOTH,
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
                software=example.software,
                **(KEEPS_BOTH if example.software == BOTH else answers_of(example.software)),
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
        self.old = self.import_own_certificate(self.retail, ("sign", "decrypt"), ends_in=20)
        self.freight_old = self.import_own_certificate(self.freight, ("sign",), ends_in=44)
        self.import_own_certificate(self.freight, ("decrypt",), ends_in=310)
        self.import_own_certificate(self.retail_test, ("sign", "decrypt"), ends_in=6)
        self.rehearsal_old = self.import_own_certificate(self.freight_test, ("sign",), ends_in=35)
        self.import_own_certificate(self.freight_test, ("decrypt",), ends_in=295)
        for example in PARTNERS:
            self.import_partner_certificate(self.by_name[example.name], ends_in=example.ends_in)

    def import_own_certificate(
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

    def import_partner_certificate(
        self, partner: Partner, *, ends_in: int, since: datetime | None = None
    ) -> PartnerCertificate:
        since = since or self.now + ends_in * DAY - 730 * DAY
        leaf = self.make_leaf(partner, since=since, ends_in=ends_in)
        material = pki.Material(leaf=leaf, chain=(), key=None, container="pem")
        taken = import_certificate(partner, material, roles=("verify", "encrypt"), by=self.by, now=since)
        certificate: PartnerCertificate = taken.certificate
        return certificate

    def make_leaf(self, partner: Partner, *, since: datetime, ends_in: int) -> Certificate:
        """Return a certificate of a partner; its key is not kept."""
        return pki.make_self_signed(
            pki.generate_key(2048),
            subject=pki.CertificateSubject(common_name=partner.as2_id, organization=partner.name),
            days=((self.now + ends_in * DAY) - since).days,
            roles=("verify", "encrypt"),
            now=since,
        )

    def freezes(self) -> None:
        """Create freezes: one everywhere, and one for one partner."""
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
