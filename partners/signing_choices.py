"""What signs for one partner while our signature changes partner by partner.

The only place that opens and ends choices. While one is open, its certificate signs for its partnership, and for all
others the identity's default: what serves the role ``sign`` (see ``identities.role_assignments``). So at any moment
exactly one certificate signs for a partnership, and a choice that would say the same as the default is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from django.db.models import DateTimeField, QuerySet, Value
from django.db.models.functions import Greatest

from identities.models import Identity, IdentityCertificate, IdentityService, OwnRole
from identities.stations import ServiceQuerySet
from partners.models import Partner, Partnership, SigningChoice


@dataclass(frozen=True)
class SigningPeriod:
    """A time (UTC) in which one certificate signed for a partnership; ``end`` None: it does now.

    ``own`` says that it was this partnership's choice, and not the identity's default.
    """

    certificate: IdentityCertificate
    start: datetime
    end: datetime | None
    own: bool


def choose(partnership: Partnership, certificate: IdentityCertificate, *, at: datetime) -> None:
    """Let a certificate sign for one partnership from ``at`` (UTC) on, whatever signs for the others.

    Nothing happens when it does already. The moment is never before what signs now began, which a machine with another
    clock may have noted.
    """
    own = open_choice(partnership)
    default = _default_assignments(partnership.identity).open().first()
    signs = own or default
    if signs is not None and signs.certificate_id == certificate.pk:
        return
    at = max([at, *(row.starts_at for row in (own, default) if row is not None)])
    if own is not None:
        SigningChoice.objects.filter(pk=own.pk).update(ends_at=at)
    if default is None or default.certificate_id != certificate.pk:
        SigningChoice.objects.create(partnership=partnership, certificate=certificate, starts_at=at)


def end_choices(identity: Identity, *, at: datetime, certificate: IdentityCertificate | None = None) -> int:
    """Let the default sign for all partners of an identity from ``at`` (UTC) on, and return how many choices that ends.

    With a certificate, only the choices of that one end.
    """
    rows = SigningChoice.objects.open().filter(partnership__identity=identity)
    if certificate is not None:
        rows = rows.filter(certificate=certificate)
    # Greatest: a machine whose clock is ahead may have noted a beginning after this moment.
    return int(rows.update(ends_at=Greatest("starts_at", Value(at, output_field=DateTimeField()))))


def open_choice(partnership: Partnership) -> SigningChoice | None:
    """Return the choice that is open for a partnership, or None where the default signs for it."""
    found: SigningChoice | None = partnership.signing.open().select_related("certificate").first()
    return found


def signing_certificate_at(partnership: Partnership, moment: datetime) -> IdentityCertificate | None:
    """Say what we signed with for a partnership at a moment (aware); None before anything did."""
    own = partnership.signing.at(moment).select_related("certificate").first()
    row = own or _default_assignments(partnership.identity).at(moment).select_related("certificate").last()
    return row.certificate if row else None


def signing_history(partnership: Partnership) -> list[SigningPeriod]:
    """Return what signed for a partnership and when, the oldest first, without gap and without double."""
    light = ("certificate__der", "certificate__chain_pem")
    choices = list(partnership.signing.select_related("certificate").defer(*light))
    defaults = list(_default_assignments(partnership.identity).select_related("certificate").defer(*light))
    rows = [*choices, *defaults]
    turns = sorted({turn for row in rows for turn in (row.starts_at, row.ends_at) if turn is not None})
    spans: list[SigningPeriod] = []
    for start, end in pairwise([*turns, None]):
        assert start is not None  # only the last turn has nothing behind it
        row = next((row for row in rows if _covers(row, start)), None)
        if row is None:
            continue
        own = row in choices
        if spans and (spans[-1].end, spans[-1].certificate, spans[-1].own) == (start, row.certificate, own):
            start = spans.pop().start
        spans.append(SigningPeriod(row.certificate, start, end, own))
    return spans


def partnerships_with_choices(partner: Partner) -> QuerySet[Partnership]:
    """Return a partner's partnerships, ended ones too, to which we ever signed with a choice of their own."""
    rows = Partnership.objects.filter(partner=partner, signing__isnull=False).distinct()
    return rows.select_related("identity")


def _covers(row: SigningChoice | IdentityService, moment: datetime) -> bool:
    return row.starts_at <= moment and (row.ends_at is None or row.ends_at > moment)


def _default_assignments(identity: Identity) -> ServiceQuerySet:
    rows: ServiceQuerySet = identity.service.filter(role=OwnRole.SIGN).order_by("starts_at", "id")
    return rows
