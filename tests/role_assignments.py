"""Role assignments outside of any rotation."""

from datetime import datetime
from typing import Any

from identities.role_assignments import RoleAssignments


def begin(certificate: Any, role: str, *, at: datetime) -> None:
    """Assign a certificate of an identity or a partner to a role."""
    roster = RoleAssignments([certificate.holder])
    roster.begin(certificate, role, at=at)
    roster.save()


def replace(old: Any, new: Any, role: str, *, at: datetime) -> datetime:
    """Assign one certificate to a role in place of another; return the moment."""
    roster = RoleAssignments([old.holder])
    moment = roster.replace(old, new, role, at=at)
    roster.save()
    return moment
