"""Installations on PostgreSQL and Redis of their own, copied from one that was migrated once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, Postgres, Redis


@pytest.fixture(scope="session")
def migrated(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database in today's shape, without a row, to be copied."""
    url = postgres.new_database()
    Site(tmp_path_factory.mktemp("migrated") / "var", database_url=url).prepare()
    return url


@pytest.fixture
def broker() -> Iterator[Redis]:
    """A Redis of this test's own, since it may be killed."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def site(
    postgres: Postgres, migrated: str, broker: Redis, smtp_server: MailServer, tmp_path: Path
) -> Iterator[Site]:
    """An installation on PostgreSQL, Redis and a mail server; its processes end with the test."""
    made = Site(
        tmp_path / "var",
        database_url=postgres.new_database(template=migrated),
        redis_url=broker.url,
        email_url=smtp_server.url,
    )
    made.prepare()
    yield made
    made.stop()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Site]:
    """An installation on SQLite and the broker of files; its processes end with the test."""
    made = Site(tmp_path / "var")
    made.prepare()
    yield made
    made.stop()
