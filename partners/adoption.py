"""Adopt what an AS2 system uses: put its certificates into service in the inventory, in place of the present ones."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from identities.certificates import checks
from identities.certificates.single_import import record_accepted_warnings, store_certificate
from identities.models import Identity
from identities.role_assignments import RoleAssignments
from identities.stations import WRITER_ROLES, AbstractCertificate
from partners.errors import AdoptionRefused
from partners.models import PartnerCertificate, StationBaseline


@dataclass(frozen=True)
class Adoption:
    """What adopting a difference would do: the certificates of each role afterwards, by SHA-256.

    ``stored`` are those that the inventory has; ``taken_in`` those of a partner that the AS2 system shows and the
    inventory lacks, with the findings about each. With an ``obstacle``, it is not possible.
    """

    roles: dict[str, tuple[str, ...]]
    stored: dict[str, AbstractCertificate]
    taken_in: dict[str, tuple[pki.Material, list[pki.CertificateFinding]]]
    obstacle: str = ""

    @property
    def certificates(self) -> list[tuple[AbstractCertificate, list[str]]]:
        """Return the certificates that would be in use, each with its roles; those to be taken in are not saved."""
        new = {
            sha256: PartnerCertificate(**PartnerCertificate.columns_from(material))
            for sha256, (material, _) in self.taken_in.items()
        }
        return [(one, self.roles_of(sha256)) for sha256, one in (self.stored | new).items()]

    def roles_of(self, sha256: str) -> list[str]:
        """Return the roles that a certificate would have, of those that change."""
        return [role for role, found in self.roles.items() if sha256 in found]


def version_of(row: StationBaseline) -> str:
    """Return a token of what a difference shows: a page sends it back, so that nothing unseen is adopted."""
    return hashlib.sha256(json.dumps(row.differences, sort_keys=True).encode()).hexdigest()


def plan_adoption(row: StationBaseline, *, now: datetime) -> Adoption:
    """Return what adopting a difference would do, and what is against it."""
    roles = {one.role: one.found for one in row.role_differences if not one.partner}
    used = {sha256 for found in roles.values() for sha256 in found}
    stored = {one.sha256: one for one in row.holder.certificates.light().filter(sha256__in=used)}
    taken_in = {}
    for sha256 in used - stored.keys():
        if (pem := row.shown.get(sha256)) and row.partner is not None:
            (leaf,) = pki.load_pem(pem.encode("ascii"))
            material = pki.Material(leaf=leaf, chain=(), key=None, container="PEM")
            uses = [role for role, found in roles.items() if sha256 in found]
            taken_in[sha256] = material, checks.check_for_station(row.holder, material, roles=uses, now=now)
    plan = Adoption(roles, stored, taken_in)
    return Adoption(roles, stored, taken_in, _find_obstacle(row, plan))


def _find_obstacle(row: StationBaseline, plan: Adoption) -> str:
    """Return why a difference can't be adopted, as a sentence; "" if it can."""
    differences, holder = row.role_differences, row.holder
    if not differences:
        return "The AS2 system uses what the inventory says by now: there is nothing to adopt."
    if rotation := holder.rotations.running().first():
        return f"The rotation “{rotation}” goes on from what the inventory says: finish or cancel it first."
    if any(one.partner for one in differences):
        return "It differs for one partner alone: correct the AS2 system, then compare again."
    if any(one.is_disputed for one in differences):
        return "Two sources of the AS2 system show different certificates: correct the AS2 system, then compare again."
    for role, found in plan.roles.items():
        if not found or (role in WRITER_ROLES and len(found) > 1):
            what = "no certificate" if not found else "several certificates"
            return f"The AS2 system has {what} to {role}: correct it, then compare again."
    for sha256 in sorted(sha256 for found in plan.roles.values() for sha256 in found):
        name = pki.short_fingerprint(sha256)
        if isinstance(holder, Identity) and (sha256 not in plan.stored or not _has_key(plan.stored[sha256])):
            return f"{name} is not here with its private key: upload it with the key first, then adopt it."
        if sha256 not in plan.stored and sha256 not in plan.taken_in:
            return f"{name} is not in the inventory, and the AS2 system does not show it: upload it first."
    for sha256, (_, findings) in plan.taken_in.items():
        if error := next((one for one in findings if one.level == "error"), None):
            return f"{pki.short_fingerprint(sha256)} can't be taken in: {error.reason} {error.advice}"
    return ""


def _has_key(certificate: AbstractCertificate) -> bool:
    return getattr(certificate, "private_key_id", None) is not None


@transaction.atomic
def adopt(row: StationBaseline, *, reason: str, by: Actor, now: datetime) -> None:
    """Put what an AS2 system uses into service, and take in what the inventory lacks. Raises AdoptionRefused.

    ``row`` is the difference as it was shown: it is refused if the system differs in another way by now.
    """
    type(row.holder)._base_manager.select_for_update(no_key=True).only("pk").get(pk=row.holder.pk)
    current = StationBaseline.objects.with_holders().select_for_update(of=("self",)).filter(pk=row.pk).first()
    if current is None or current.differences != row.differences:
        raise AdoptionRefused("What the AS2 system uses has changed meanwhile: look at it again.")
    plan = plan_adoption(current, now=now)
    if plan.obstacle:
        raise AdoptionRefused(plan.obstacle)
    holder = current.holder
    certificates: dict[str, AbstractCertificate] = dict(plan.stored)
    for sha256, (material, findings) in plan.taken_in.items():
        certificate = store_certificate(holder, material, roles=plan.roles_of(sha256), by=by, now=now)
        certificates[sha256] = certificate
        if warnings := [one for one in findings if one.level == "warning"]:
            record_accepted_warnings(certificate, warnings, reason=reason, by=by, now=now)
    begun = _assign(current, plan, certificates, now=now)
    for sha256, roles in begun.items():
        also = (holder, current.system)
        event = AuditEvent("certificate.adopted", certificates[sha256], also, new={"roles": roles}, reason=reason)
        record(event, by=by, now=now)
    rows = StationBaseline.objects.filter(pk=current.pk)
    rows.update(differences=[], differs_since=None, notified_at=None, shown={}, due_at=now)
    wake_task("partners.tasks.compare_stations")
    wake_task("rotations.tasks.send_reminders")


def _assign(
    row: StationBaseline, plan: Adoption, certificates: dict[str, AbstractCertificate], *, now: datetime
) -> dict[str, list[str]]:
    """Give each role the certificates of the plan alone; return the roles of those that begin, by SHA-256."""
    assignments = RoleAssignments([row.holder])
    serving = assignments.serving(row.holder)
    begun: dict[str, list[str]] = defaultdict(list)
    for role, found in plan.roles.items():
        present = {one.sha256 for one in serving[role]}
        for one in serving[role]:
            if one.sha256 not in found:
                assignments.end(one, role, at=now)
        for sha256 in found:
            if sha256 not in present:
                assignments.begin(certificates[sha256], role, at=now)
                begun[sha256].append(role)
    assignments.save()
    return begun
