"""Changes for the tests of the plan: fixed moments, named systems and partners."""

from datetime import UTC, datetime

from rotations.plan import OWN, Change, Holds, Party, Role, System

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
ONE, SEVERAL, UNKNOWN = Holds.ONE, Holds.SEVERAL, Holds.UNKNOWN


def make_change(
    which: str,
    ours: tuple[Holds, ...] = (SEVERAL,),
    theirs: tuple[Holds, ...] = (SEVERAL,),
    *,
    automatic: bool = True,
) -> Change:
    """Make the change with this letter, with systems s1, s2, … and partners p1, p2, …"""
    roles = frozenset(ROLES[which])
    return Change(
        side="own" if roles <= OWN else "partner",
        roles=roles,
        systems=tuple(
            System(f"s{n}", f"System {n}", holds, automatic=automatic) for n, holds in enumerate(ours, 1)
        ),
        parties=tuple(Party(f"p{n}", f"Partner {n}", holds) for n, holds in enumerate(theirs, 1)),
        starts=STARTS,
        ends=ENDS,
        now=NOW,
        old_name="C1",
        new_name="C2",
        holder_name="ACME-PROD",
    )
