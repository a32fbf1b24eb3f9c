"""Installations on PostgreSQL, Redis and a mail server of their own, or on SQLite and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, Postgres, Redis
from tests.stack import Stack


@pytest.fixture
def broker() -> Iterator[Redis]:
    """A Redis of this test's own, since it may be killed."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def site(
    postgres: Postgres,
    moulds: Callable[[Postgres | None], Stack],
    broker: Redis,
    smtp_server: MailServer,
    tmp_path: Path,
) -> Iterator[Site]:
    """An installation on PostgreSQL, Redis and a mail server; its processes end with the test."""
    mould = moulds(postgres)
    made = Site(
        tmp_path / "var",
        database_url=postgres.new_database(template=mould.database_url),
        redis_url=broker.url,
        email_url=smtp_server.url,
    )
    made.prepare(mould=mould)
    yield made
    made.kill()


@pytest.fixture
def embedded(moulds: Callable[[Postgres | None], Stack], tmp_path: Path) -> Iterator[Site]:
    """An installation on SQLite and the broker of files; its processes end with the test."""
    made = Site(tmp_path / "var")
    made.prepare(mould=moulds(None))
    yield made
    made.kill()
