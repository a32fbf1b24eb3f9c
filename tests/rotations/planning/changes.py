"""Changes for tests, with fixed times, systems and partners."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from rotations.planning.change import OWN_ROLES, Capacity, CertificateChange, Party, Role, System

NOW = datetime(2026, 11, 3, 9, tzinfo=UTC)
STARTS = datetime(2026, 11, 25, 4, tzinfo=UTC)
ENDS = datetime(2026, 11, 25, 5, tzinfo=UTC)

ROLES = {
    "A": {Role.SIGN},
    "B": {Role.DECRYPT},
    "C": {Role.SIGN, Role.DECRYPT},
    "D": {Role.VERIFY},
    "E": {Role.ENCRYPT},
    "F": {Role.VERIFY, Role.ENCRYPT},
}
ONE, SEVERAL, UNKNOWN = Capacity.ONE, Capacity.SEVERAL, Capacity.UNKNOWN


def make_change(
    which: str,
    ours: tuple[Capacity, ...] = (SEVERAL,),
    theirs: tuple[Capacity, ...] = (SEVERAL,),
    *,
    automatic: bool = True,
    per_partner: bool = False,
    moments: Mapping[str, datetime] | None = None,
) -> CertificateChange:
    """Return the change with this letter, with systems s1, s2, … and partners p1, p2, …

    `per_partner`: our systems can sign with another certificate for each. `moments` says for the keys of partners
    when their own windows begin, each an hour long.
    """
    own = moments or {}
    roles = frozenset(ROLES[which])
    return CertificateChange(
        side="own" if roles <= OWN_ROLES else "partner",
        roles=roles,
        systems=tuple(
            System(f"s{n}", f"System {n}", holds, signs_per_partner=per_partner, automatic=automatic)
            for n, holds in enumerate(ours, 1)
        ),
        parties=tuple(
            Party(
                key := f"p{n}",
                f"Partner {n}",
                holds,
                starts=own.get(key),
                ends=own[key] + timedelta(hours=1) if key in own else None,
            )
            for n, holds in enumerate(theirs, 1)
        ),
        starts=STARTS,
        ends=ENDS,
        now=NOW,
        old_name="C1",
        new_name="C2",
        holder_name="ACME-PROD",
    )
