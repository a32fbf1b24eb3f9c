"""Choose the certificate that signs for one partner alone, while our signature changes partner by partner.

The only module that starts and ends choices. While a choice is open, its certificate signs for its partnership; for all
others the identity's default signs, its certificate in the role ``sign`` (see ``identities.role_assignments``). So
exactly one certificate signs for a partnership at any moment, and no choice equals the default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from django.db.models import DateTimeField, QuerySet, Value
from django.db.models.functions import Greatest

from identities.models import Identity, IdentityCertificate, IdentityService, OwnRole
from identities.stations import PeriodQuerySet
from partners.models import Partner, Partnership, SigningChoice


@dataclass(frozen=True)
class SigningPeriod:
    """A period (UTC) in which a certificate signed for a partnership; ``end`` None means now.

    ``is_choice`` is False if it was the identity's default.
    """

    certificate: IdentityCertificate
    start: datetime
    end: datetime | None
    is_choice: bool


def choose(partnership: Partnership, certificate: IdentityCertificate, *, at: datetime) -> None:
    """Let a certificate sign for one partnership from ``at`` (UTC) on, whatever signs for the others.

    Do nothing if it signs already. The moment is never before the start of what signs now, which a machine whose clock
    is ahead may have stored.
    """
    choice = open_choice(partnership)
    default = _default_assignments(partnership.identity).open().first()
    current = choice or default
    if current is not None and current.certificate_id == certificate.pk:
        return
    at = max([at, *(row.starts_at for row in (choice, default) if row is not None)])
    if choice is not None:
        SigningChoice.objects.filter(pk=choice.pk).update(ends_at=at)
    if default is None or default.certificate_id != certificate.pk:
        SigningChoice.objects.create(partnership=partnership, certificate=certificate, starts_at=at)


def end_choices(identity: Identity, *, at: datetime, certificate: IdentityCertificate | None = None) -> int:
    """End an identity's choices at ``at`` (UTC), so that its default signs for all partners; return how many ended.

    With ``certificate``, only the choices of that one end.
    """
    rows = SigningChoice.objects.open().filter(partnership__identity=identity)
    if certificate is not None:
        rows = rows.filter(certificate=certificate)
    # Greatest: a machine whose clock is ahead may have stored a start after this moment.
    return int(rows.update(ends_at=Greatest("starts_at", Value(at, output_field=DateTimeField()))))


def open_choice(partnership: Partnership) -> SigningChoice | None:
    """Return the open choice of a partnership, None if the default signs for it."""
    choice: SigningChoice | None = partnership.signing.open().select_related("certificate").first()
    return choice


def signing_certificate_at(partnership: Partnership, moment: datetime) -> IdentityCertificate | None:
    """Return the certificate that signed for a partnership at a moment (aware), None if none did."""
    choice = partnership.signing.at(moment).select_related("certificate").first()
    row = choice or _default_assignments(partnership.identity).at(moment).select_related("certificate").last()
    return row.certificate if row else None


def signing_history(partnership: Partnership) -> list[SigningPeriod]:
    """Return the periods of the certificates that signed for a partnership, the oldest first, without overlaps.

    1. Cut time at each moment at which a choice or a default assignment starts or ends.
    2. For each part, take the choice that covers it, else the default.
    3. Join adjacent parts with the same certificate.
    """
    choices = list(partnership.signing.with_certificates())
    defaults = list(_default_assignments(partnership.identity).with_certificates())
    rows = [*choices, *defaults]
    moments = sorted({moment for row in rows for moment in (row.starts_at, row.ends_at) if moment is not None})
    periods: list[SigningPeriod] = []
    for start, end in pairwise([*moments, None]):
        assert start is not None  # only the last end is None
        row = next((row for row in rows if _covers(row, start)), None)
        if row is None:
            continue
        period = SigningPeriod(row.certificate, start, end, is_choice=row in choices)
        last = periods[-1] if periods else None
        if last and (last.end, last.certificate, last.is_choice) == (
            start,
            row.certificate,
            period.is_choice,
        ):
            period = replace(period, start=periods.pop().start)
        periods.append(period)
    return periods


def partnerships_with_choices(partner: Partner) -> QuerySet[Partnership]:
    """Return the partnerships of a partner, also ended ones, that ever had a signing choice."""
    rows = Partnership.objects.filter(partner=partner, signing__isnull=False).distinct()
    return rows.select_related("identity")


def _covers(row: SigningChoice | IdentityService, moment: datetime) -> bool:
    return row.starts_at <= moment and (row.ends_at is None or row.ends_at > moment)


def _default_assignments(identity: Identity) -> PeriodQuerySet:
    rows: PeriodQuerySet = identity.service.filter(role=OwnRole.SIGN).order_by("starts_at", "id")
    return rows
