"""On what a run was made: nothing that names the machine or its owner."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import django

from tests.programs import postgres_folder


def described() -> list[tuple[str, str]]:
    """Return what decides about the figures, each with its name."""
    return [
        ("CPUs", f"{len(os.sched_getaffinity(0))} × {_processor()}"),
        ("Memory", f"{_memory_gigabytes():.0f} GB"),
        ("System", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
        ("Django", django.get_version()),
        ("PostgreSQL", _version([f"{postgres_folder()}/postgres", "--version"])),
        ("Redis", _version(["redis-server", "--version"])),
        ("Load before the run", _load()),
    ]


def _load() -> str:
    """Return how much else was to be done, and what that means for the figures."""
    load = os.getloadavg()[0]
    if load < 0.5:
        return f"{load:.1f}"
    return f"{load:.1f}: other work went on, so seconds say little, and ratios are rough"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def _version(argv: list[str]) -> str:
    """Return the first number with a dot that a program says of itself."""
    words = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return next(word.removeprefix("v=") for word in words if word.removeprefix("v=")[0].isdigit())
