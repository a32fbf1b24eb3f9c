"""The status of a participant that follows from its evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from rotations.exchange.partner_status import STATUS_MEANING, PartnerEvidence, PartnerStatus, derive_status

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

NOTHING = PartnerEvidence(
    informed_at=None,
    written=False,
    reached=False,
    reminded=False,
    opened_at=None,
    downloaded_at=None,
    strength="",
    agreed_at=None,
    declined_at=None,
    proposed_at=None,
    waived=False,
    works=None,
    awaited=True,
)
ANNOUNCED = replace(NOTHING, informed_at=NOW, written=True, reached=True)


@pytest.mark.parametrize(
    ("evidence", "status"),
    [
        (NOTHING, PartnerStatus.NOT_INFORMED),
        (ANNOUNCED, PartnerStatus.ANNOUNCED),
        (replace(ANNOUNCED, reached=False), PartnerStatus.UNREACHABLE),
        (replace(ANNOUNCED, reached=False, opened_at=NOW), PartnerStatus.OPENED),
        (replace(ANNOUNCED, opened_at=NOW), PartnerStatus.OPENED),
        (replace(ANNOUNCED, opened_at=NOW, downloaded_at=NOW), PartnerStatus.DOWNLOADED),
        (replace(ANNOUNCED, opened_at=NOW, downloaded_at=NOW, reminded=True), PartnerStatus.SILENT),
        (replace(ANNOUNCED, strength="weak"), PartnerStatus.INSTALLED_WEAK),
        (replace(ANNOUNCED, strength="weak", awaited=False), PartnerStatus.READY_UNVERIFIED),
        (replace(ANNOUNCED, strength="strong"), PartnerStatus.INSTALLED),
        (replace(ANNOUNCED, strength="strong", awaited=False, verified=True), PartnerStatus.READY),
        (replace(ANNOUNCED, agreed_at=NOW), PartnerStatus.AGREED),
        (replace(ANNOUNCED, agreed_at=NOW, awaited=False, verified=True), PartnerStatus.READY),
        (replace(ANNOUNCED, strength="strong", proposed_at=NOW), PartnerStatus.OTHER_TIME),
        (replace(ANNOUNCED, strength="strong", proposed_at=NOW, declined_at=NOW), PartnerStatus.DECLINED),
        (replace(ANNOUNCED, declined_at=NOW, waived=True), PartnerStatus.WAIVED),
        (replace(ANNOUNCED, waived=True, works=True), PartnerStatus.WORKS),
        (replace(ANNOUNCED, strength="strong", works=False), PartnerStatus.DOES_NOT_WORK),
        (replace(ANNOUNCED, migrated_at=NOW), PartnerStatus.MIGRATED),
        (replace(ANNOUNCED, migrated_at=NOW, works=True), PartnerStatus.WORKS),
        (replace(ANNOUNCED, works=True, straggling_at=NOW), PartnerStatus.USES_OLD),
        (replace(ANNOUNCED, works=False, straggling_at=NOW), PartnerStatus.DOES_NOT_WORK),
    ],
)
def test_the_status_follows_from_the_evidence(evidence: PartnerEvidence, status: PartnerStatus) -> None:
    assert derive_status(evidence) is status


def test_every_status_has_a_meaning() -> None:
    assert set(STATUS_MEANING) == set(PartnerStatus)
