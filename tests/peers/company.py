"""The company whose AS2 system carries the traffic, set up inside the installation under test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from identities.capabilities import Support, answers_of
from identities.certificates.single_import import import_certificate
from identities.models import AS2System, Identity
from identities.system_credentials import seal_credentials
from partners.models import Partner, Partnership
from rotations.lifecycle import drafts, rescheduling
from rotations.lifecycle.rescheduling import WindowChange
from rotations.models import Participant
from rotations.planning.windows import Window
from tests.capabilities import SIGNS_ALIKE, SIGNS_PER_PARTNER, keeps_both
from tests.peers.installations import PASSWORD
from tests.peers.stores import read_pair
from tests.people import make_person

OWN = "ACME"
#: Who approves what Alice has set up, on the pages.
APPROVER = "bob"
#: What is known of each partner's AS2 system: one holds one certificate for everything, the other two.
PARTNERS: Mapping[str, Mapping[str, str]] = {
    "FABRIKAM": {"software": "pyas2", **answers_of("pyas2")},
    "NORTHWIND": {"software": "other", **keeps_both(Support.YES), **SIGNS_PER_PARTNER},
}


def set_up(certificates: Path, partners: list[str], system: dict[str, Any]) -> None:
    """Describe our station and these partners, with their certificates in use and the next ones.

    `certificates` has `<AS2 ID>-old.pem` and `-new.pem`, each with its key. `system` are columns of our AS2 system,
    which is an OpenAS2; what its connector can't do with it is among them.
    """
    now = database_now()
    make_person(APPROVER, is_superuser=True, is_staff=True)
    by = Actor(name="Alice", source="web", user=make_person("alice", "operator"))
    known = {"software": "openas2", **answers_of("openas2")}
    as2_system = AS2System.objects.create(name="OpenAS2", **{**known, **system})
    identity = Identity.objects.create(name=OWN, as2_id=OWN, as2_system=as2_system)
    for age in ("old", "new"):
        pair = read_pair((certificates / f"{OWN}-{age}.pem").read_text())
        material = pki.Material(leaf=pair.certificate, chain=(), key=pair.key, container="pem")
        import_certificate(identity, material, roles=("sign", "decrypt"), by=by, now=now)
    for as2_id in partners:
        partner = Partner.objects.create(name=as2_id, as2_id=as2_id, time_zone="UTC", **PARTNERS[as2_id])
        Partnership.objects.create(identity=identity, partner=partner)
        for age in ("old", "new"):
            pair = read_pair((certificates / f"{as2_id}-{age}.pem").read_text())
            material = pki.Material(leaf=pair.certificate, chain=(), key=None, container="pem")
            import_certificate(partner, material, roles=("verify", "encrypt"), by=by, now=now)


def by_hook(hook: str, read_back: str = "") -> dict[str, Any]:
    """Return the columns of an AS2 system with a directory and a hook, which signs alike for all partners."""
    config = {"folder": "openas2", "hook": hook, "read_back": read_back}
    return {"connector": "directory", "config": config, **SIGNS_ALIKE}


def by_openas2(keystore: str, partnerships: str, seconds: int) -> dict[str, Any]:
    """Return the columns of an OpenAS2 whose files are changed, and which reads them again after so many seconds."""
    config = {
        "keystore": keystore,
        "partnerships": partnerships,
        "keystore_seconds": seconds,
        "partnerships_seconds": seconds,
    }
    credentials = seal_credentials({"keystore_password": PASSWORD})
    return {"connector": "openas2", "config": config, "sealed_credentials": credentials}


def move(participant: str, starts: str, seconds: float) -> None:
    """Give a partner, by its participant's id, a window of its own that begins at a moment (ISO) and is so long."""
    row = Participant.objects.select_related("rotation").get(uid=participant)
    begin = datetime.fromisoformat(starts)
    change = WindowChange(Window(begin, begin + timedelta(seconds=seconds), "UTC"), reason="Its people are in then.")
    by = Actor(name="Alice", source="web", user=User.objects.get(username="alice"))
    rescheduling.move_participant(row, change, by=by, now=database_now())


def draft(as2_id: str, starts_in: float, seconds: float) -> dict[str, Any]:
    """Create the rotation of a station to its next certificate, in a window so many seconds from now and so long.

    Windows on pages begin with a full minute, which a test would have to wait for.
    """
    now = database_now()
    holder: Any = Identity.objects.filter(as2_id=as2_id).first() or Partner.objects.get(as2_id=as2_id)
    roles = ("sign", "decrypt") if isinstance(holder, Identity) else ("verify", "encrypt")
    old, new = sorted(holder.certificates.all(), key=lambda one: one.not_after)
    starts = now + timedelta(seconds=starts_in)
    window = Window(starts, starts + timedelta(seconds=seconds), "UTC")
    by = Actor(name="Alice", source="web", user=User.objects.get(username="alice"))
    rotation = drafts.create_draft(
        holder, drafts.DraftSpec(roles=roles, old=old, new=new, window=window), by=by, now=now
    )
    return {
        "uid": str(rotation.uid),
        "sha256": new.sha256,
        "starts": window.start.isoformat(),
        "ends": window.end.isoformat(),
        "participants": {one.partner.as2_id: str(one.uid) for one in rotation.participants.select_related("partner")},
    }
