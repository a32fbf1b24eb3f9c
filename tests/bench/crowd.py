"""Many approved rotations at once: one is set up through the door, and its rows are copied."""

from __future__ import annotations

import copy
import uuid
from datetime import timedelta
from typing import Any, TypeVar

from django.db import models, transaction

from as2certs.clock import database_now
from identities.models import Identity, IdentityCertificate, IdentityService
from rotations.models import Rotation, Step
from tests.faults import companies

M = TypeVar("M", bound=models.Model)

BATCH = 1000


@transaction.atomic
def crowd(count: int, starts_in: float, *, directories: int = 0) -> int:
    """Let so many stations change both roles at one moment, seconds from now: some in a directory, the rest in none."""
    pattern = companies.many([3600.0] * (directories + 1), directories=range(directories))[-1]
    count -= directories
    assert pattern.identity is not None
    identities = _copies(pattern.identity, count - 1, lambda n: {"name": f"Copy {n}", "as2_id": f"COPY-{n}"})
    owners = Identity.owners.through
    rows = [owners(identity=i, user=user) for user in pattern.identity.owners.all() for i in identities]
    owners.objects.bulk_create(rows, BATCH)
    certificates = {
        row.pk: _copies(row, count - 1, lambda n: {"identity": identities[n], "sha256": uuid.uuid4().hex * 2})
        for row in IdentityCertificate.objects.filter(identity=pattern.identity)
    }
    for service in IdentityService.objects.filter(identity=pattern.identity):
        of = certificates[service.certificate_id]
        _copies(service, count - 1, lambda n, of=of: {"identity": identities[n], "certificate": of[n]})
    old, new = (certificates[c.pk] for c in (pattern.old, pattern.new) if c is not None)
    rotations = _copies(
        pattern,
        count - 1,
        lambda n: {
            "identity": identities[n],
            "old_identity_certificate": old[n],
            "new_identity_certificate": new[n],
        },
    )
    for step in pattern.steps.all():
        _copies(step, count - 1, lambda n: {"rotation": rotations[n]})
    assert pattern.window_start is not None
    moment = Step.objects.filter(act="cut_over").values_list("earliest_at", flat=True)[0]
    assert moment is not None
    companies.move(moment - database_now() - timedelta(seconds=starts_in))
    return Rotation.objects.count()


def _copies(row: M, count: int, changed: Any) -> list[M]:
    """Store copies of a row, each with what ``changed`` says of its number."""
    made = []
    for n in range(count):
        one = copy.copy(row)
        one._state = copy.copy(row._state)
        one._state.fields_cache = {}
        one.pk, one._state.adding = None, True
        if hasattr(one, "uid"):
            one.uid = uuid.uuid4()
        for name, value in changed(n).items():
            setattr(one, name, value)
        made.append(one)
    return type(row)._base_manager.bulk_create(made, BATCH)
