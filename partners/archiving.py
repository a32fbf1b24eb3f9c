"""Obstacles to archiving and restoring partners and partnerships."""

from __future__ import annotations

from partners.models import Partner, Partnership


def partner_archive_obstacle(partner: Partner) -> str:
    """Return why a partner can't be archived, as a sentence; empty if it can."""
    own = partner.rotations.running().first()
    if own is not None:
        return f"A rotation of {partner} is running ({own}): close or cancel it first."
    taking_part = partner.participations.filter(rotation__ended_at=None, removed_reason="")
    part = taking_part.select_related("rotation__identity", "rotation__partner").first()
    if part is not None:
        return f"{partner} takes part in a running rotation ({part.rotation}): remove it there first, or finish that."
    return ""


def partnership_archive_obstacle(partnership: Partnership) -> str:
    """Return why a partnership can't be ended, as a sentence; empty if it can."""
    identity, partner = partnership.identity, partnership.partner
    ours = identity.rotations.running().filter(participants__partner=partner, participants__removed_reason="")
    if ours.exists():
        return f"{partner} takes part in a running rotation of {identity}: remove it there first, or finish that."
    if partner.rotations.running().exists():
        return f"A rotation of {partner} is running, and {identity} takes part in it: close or cancel it first."
    return ""


def partnership_restore_obstacle(partnership: Partnership) -> str:
    """Return why an ended partnership can't be restored, as a sentence; empty if it can."""
    identity, partner = partnership.identity, partnership.partner
    for station in (identity, partner):
        if station.archived_at is not None:
            return f"{station} is archived: restore it first."
    if identity.environment != partner.environment:
        return (
            f"{identity} is in {identity.environment} and {partner} in {partner.environment} now: "
            "they can’t be connected."
        )
    return ""
