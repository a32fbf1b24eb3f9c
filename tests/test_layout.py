"""The layout that docs/architecture.md describes: few entries per room, few floors of imports, a docstring each.

import-linter (`make check`) holds the direction of imports; what it can't count is counted here.
"""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
APPS = ("as2certs", "identities", "partners", "rotations")
#: Entries of a folder that are no rooms or modules of the project.
NOT_COUNTED = {"__pycache__"}
ROOMS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*(ROOT / "rotations").rglob("*"), ROOT / "as2certs/as2", ROOT / "as2certs/as2/cms")
    if path.is_dir() and (path / "__init__.py").exists() and not {"management", "migrations"} & set(path.parts)
)


def entries(folder: str) -> list[str]:
    """Return the names of the files and folders in a folder of the project."""
    return sorted(path.name for path in (ROOT / folder).iterdir() if path.name not in NOT_COUNTED)


def count_floors(package: str) -> int:
    """Return the number of children of a package on its longest chain of imports."""
    graph = grimp.build_graph(*APPS, cache_dir=None)
    children = graph.find_children(package)
    below = {
        child: {
            other
            for other in children - {child}
            if graph.direct_import_exists(importer=child, imported=other, as_packages=True)
        }
        for child in children
    }
    floors: dict[str, int] = {}
    for child in TopologicalSorter(below).static_order():  # raises CycleError for imports in a circle
        floors[child] = 1 + max((floors[other] for other in below[child]), default=0)
    return max(floors.values())


def test_rotations_has_at_most_18_entries() -> None:
    assert len(entries("rotations")) <= 18, entries("rotations")


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "rotations/web/views"])
def test_a_room_has_at_most_12_entries(room: str) -> None:
    assert len(entries(room)) <= 12, entries(room)


def test_rotations_has_at_most_12_floors_of_imports() -> None:
    assert count_floors("rotations") <= 12


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_belongs_there(room: str) -> None:
    docstring = (ROOT / room / "__init__.py").read_text().lstrip()
    assert docstring.startswith('"""'), f"{room}/__init__.py has no docstring"
    assert len(docstring.split('"""')[1].split()) >= 8
