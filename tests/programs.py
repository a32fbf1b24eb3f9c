"""The programs of others that some tests want: where they are, and how they come where they are missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def postgres_folder() -> str | None:
    """Return the folder of PostgreSQL's server programs: Debian keeps them out of the PATH, one folder a version."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: f.parent.name.zfill(4), reverse=True
    )
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
        path
        for folder in ("", "*/")
        for path in Path("/usr/lib").glob(f"{folder}faketime/libfaketimeMT.so.1")
    )
    return str(found[0]) if found else None


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
