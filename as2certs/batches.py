"""Keys in batches, where rows are asked for by many of them.

Named one by one rather than by the query that found them: PostgreSQL plans a query within a query badly while it does
not know yet how many rows there are, as after an import, and then looks every row up once for every other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: No database that we run on refuses so many parameters.
MAX_KEYS = 10_000


def key_batches(keys: Iterable[int]) -> Iterator[list[int]]:
    """Yield the different keys in order, in lists of at most ``MOST``."""
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), MAX_KEYS):
        yield ordered[start : start + MAX_KEYS]
