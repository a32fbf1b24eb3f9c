"""The programs of others that some tests want: where they are, and how they come where they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def postgres_folder() -> str | None:
    """Return the folder of PostgreSQL's server programs: Debian keeps them out of the PATH, one folder a version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: f.parent.name.zfill(4), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return str(folder)
    initdb = shutil.which("initdb")
    return str(Path(initdb).parent) if initdb and shutil.which("postgres") else None


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def libfaketime() -> str | None:
    """Return the library that lets a program's clock go wrong: Debian keeps it in a folder for each kind of machine."""
    found = sorted(
        path for folder in ("", "*/") for path in Path("/usr/lib").glob(f"{folder}faketime/libfaketimeMT.so.1")
    )
    return str(found[0]) if found else None


def other_time(offset: str) -> dict[str, str]:
    """Return the environment variables by which a program's clock differs by an offset, such as "+1h" or "-90".

    What it measures goes on as ever, and files keep their real times.
    """
    return {
        "LD_PRELOAD": str(libfaketime()),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": str(Path(__file__).parent / "faults" / "sleeping"),
    }


def this_time() -> dict[str, str]:
    """Return the environment variables that this process's programs need to have the same other time as it."""
    return {name: os.environ[name] for name in other_time("") if "FAKETIME" in os.environ and name in os.environ}


def real_time() -> dict[str, str]:
    """Return this process's environment variables without the other time that it may have.

    For programs that don't start with one: Chromium, Redis.
    """
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


@dataclass(frozen=True)
class Program:
    """A program behind a pytest marker."""

    name: str
    package: str  # Debian's
    find: Callable[[], str | None]


PROGRAMS = {
    "postgres": Program("PostgreSQL", "postgresql", postgres_folder),
    "redis": Program("Redis", "redis-server", lambda: shutil.which("redis-server")),
    "browser": Program("Chromium", "chromium", chromium),
    "openssl": Program("OpenSSL", "openssl", lambda: shutil.which("openssl")),
    "libfaketime": Program("libfaketime", "faketime", libfaketime),
}


def missing() -> dict[str, Program]:
    """Return the programs that are not there, by marker."""
    return {marker: program for marker, program in PROGRAMS.items() if not program.find()}


def command_for(programs: list[Program]) -> str:
    """Return the one command that brings these programs on Debian and Ubuntu."""
    sudo = "" if shutil.which("sudo") is None else "sudo "
    return f"{sudo}apt-get install -y --no-install-recommends {' '.join(sorted(p.package for p in programs))}"
