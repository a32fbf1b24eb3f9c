"""Connect identities with partners."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor, AuditEvent, record
from identities.models import Identity
from partners.models import Partner, Partnership


def connect(identity: Identity, partner: Partner, *, notes: str, by: Actor, now: datetime) -> Partnership:
    """Connect an identity with a partner of the same environment, or restore their archived connection.

    Raises IntegrityError if somebody else connected them at the same time.
    """
    with transaction.atomic():
        old = Partnership.objects.select_for_update().filter(identity=identity, partner=partner).first()
        if old is None:
            partnership = Partnership.objects.create(identity=identity, partner=partner, notes=notes)
            verb = "partnership.created"
        elif old.archived_at is None:
            return old
        else:
            partnership, verb = old, "partnership.restored"
            partnership.archived_at = None
            partnership.notes = notes or partnership.notes
            partnership.save(update_fields=["archived_at", "notes"])
        record(
            AuditEvent(verb, partnership, also=(identity, partner), new={"notes": notes} if notes else {}),
            by=by,
            now=now,
        )
    return partnership
