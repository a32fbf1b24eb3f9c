"""The checklist of a new installation."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from identities.models import AS2System, Identity, IdentityCertificate
from partners.models import Partner


@dataclass(frozen=True)
class FirstStep:
    """A step of the checklist; ``possible`` once its preconditions hold."""

    title: str
    why: str
    label: str
    url: str
    permission: str
    done: bool
    optional: bool = False
    possible: bool = True


def first_steps() -> list[FirstStep]:
    """Return the steps from an empty database to the first rotation; four queries."""
    identity = Identity.objects.active().order_by("id").first()
    upload = reverse("identity-upload", args=[identity.uid]) if identity else ""
    has_certificate = IdentityCertificate.objects.exists()
    return [
        FirstStep(
            "Describe your AS2 system",
            "The product that carries your messages. With a connector, changes are applied in it by themselves.",
            "Add an AS2 system",
            reverse("system-create"),
            "identities.add_as2system",
            AS2System.objects.exists(),
            optional=True,
        ),
        FirstStep(
            "Create an identity",
            "One of your AS2 stations: its AS2 ID, its URL, production or test.",
            "Create an identity",
            reverse("identity-create"),
            "identities.add_identity",
            identity is not None,
        ),
        FirstStep(
            "Create your partners",
            "Whom the identity trades with, whom to reach there, and in which time zone they work.",
            "Create a partner",
            reverse("partner-create"),
            "partners.add_partner",
            Partner.objects.exists(),
        ),
        FirstStep(
            "Upload the certificate in use",
            "With its private key for your identity, without one for a partner. From then on you are told in time.",
            "Upload a certificate",
            upload,
            "identities.add_identitycertificate",
            has_certificate,
            possible=identity is not None,
        ),
        FirstStep(
            "Set up the first rotation",
            "The successor, who takes part, and the window. The safe order is worked out for you.",
            "Set up a rotation",
            reverse("rotation-create"),
            "rotations.add_rotation",
            done=False,
            possible=has_certificate,
        ),
    ]
