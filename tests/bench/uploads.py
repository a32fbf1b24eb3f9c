"""What one upload costs: read, checked against what is known, stored and put into the trail in one transaction."""

from __future__ import annotations

import time
from datetime import timedelta
from statistics import median
from typing import Any

from django.utils import timezone

from as2certs import pki
from as2certs.audit.recording import Actor
from identities.certificates.single_import import import_certificate
from partners.models import Partner
from tests.bench.figures import Figure, Found, Scale
from tests.bench.grounds import DATABASES, Grounds, ask
from tests.certificates import cert_pem, make_pair
from tests.rotations.notifications.expiries import make_certificate, make_partner

LIMIT = (
    "An upload waits for six statements where its floor waits for one: it holds the holder, asks for what is like the "
    "certificate, and adds it, the roles that it serves, an entry of the trail and what that speaks of."
)


def one(grounds: Grounds, scale: Scale) -> Found:
    """Take in a partner's certificate, on either database."""
    found = Found()
    for database in DATABASES:
        with grounds.site(database) as site:
            took = ask(site, "uploads", "measure", max(10, scale(60)))
        told = f"{1000 * took['ours']:.1f} ms, floor {1000 * took['floor']:.1f} ms"
        name = f"{database}: one upload, rate, of parse and save()"
        found.figures.append(Figure(name, took["floor"] / took["ours"], 0.5, at_least=True, told=told, limit=LIMIT))
    return found


# Inside the installation.


def measure(count: int) -> dict[str, float]:
    """Return the median seconds of an upload, and of reading the same kind of file and saving it in autocommit."""
    ours, floor = [], []
    for n in range(count + 1):
        to_be_saved, to_be_taken_in = (_file(f"P-{n}-{kind}") for kind in "ab")
        floor.append(_seconds(_save, *to_be_saved))
        ours.append(_seconds(_take_in, *to_be_taken_in))
    return {"ours": median(ours[1:]), "floor": median(floor[1:])}  # the first loads what is loaded once


def _file(as2_id: str) -> tuple[Partner, bytes]:
    """Return a partner whose certificate is in use, and its next one as it would be uploaded."""
    now = timezone.now()
    holder: Partner = make_partner(as2_id)
    make_certificate(holder, now + timedelta(days=20))
    leaf, _ = make_pair(
        as2_id, not_before=now - timedelta(days=1), not_after=now + timedelta(days=700, seconds=holder.pk)
    )
    return holder, cert_pem(leaf)


def _save(holder: Partner, data: bytes) -> None:
    material = pki.read_public(data, partner=True)
    columns = holder.certificates.model.columns_from(material)
    holder.certificates.create(**columns, source="uploaded", created_at=timezone.now(), created_by="bench")


def _take_in(holder: Partner, data: bytes) -> None:
    material = pki.read_public(data, partner=True)
    by = Actor.command("bench")
    import_certificate(holder, material, roles=("verify", "encrypt"), by=by, now=timezone.now())


def _seconds(do: Any, *arguments: Any) -> float:
    began = time.perf_counter()
    do(*arguments)
    return time.perf_counter() - began
