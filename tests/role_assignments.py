"""Certificates that serve, as somebody let them outside of any rotation."""

from datetime import datetime
from typing import Any

from identities.role_assignments import RoleAssignments


def begin(certificate: Any, role: str, *, at: datetime) -> None:
    """Let a certificate of an identity or a partner serve a role."""
    roster = RoleAssignments([certificate.holder])
    roster.begin(certificate, role, at=at)
    roster.save()


def replace(old: Any, new: Any, role: str, *, at: datetime) -> datetime:
    """Let one take over a role from another; return when it does."""
    roster = RoleAssignments([old.holder])
    moment = roster.replace(old, new, role, at=at)
    roster.save()
    return moment
