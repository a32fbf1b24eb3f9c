"""Where it is measured: installations on private servers, prepared once and copied for each benchmark."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.site import Site
from tests.servers import Postgres, Redis
from tests.stack import Stack

DATABASES = ("PostgreSQL", "SQLite")
#: How long one measurement may take, on a machine that is busy with other work too.
MAX_SECONDS = 1_800


class Grounds:
    """PostgreSQL, Redis, and an installation on each database to copy from; started when first wanted."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="as2certs-bench-"))
        self._ends.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._servers: tuple[Postgres, Redis] | None = None
        self._moulds: dict[str, Stack] = {}
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    @property
    def servers(self) -> tuple[Postgres, Redis]:
        if self._servers is None:
            postgres = Postgres()
            self._ends.callback(postgres.close)
            redis = Redis()
            self._ends.callback(redis.close)
            self._servers = postgres, redis
        return self._servers

    def folder(self) -> Path:
        """Return a new folder, which is removed after the run."""
        self._count += 1
        made = self._folder / str(self._count)
        made.mkdir()
        return made

    @contextmanager
    def site(self, database: str = "PostgreSQL") -> Iterator[Site]:
        """Make an installation: on PostgreSQL and Redis, or the embedded one. Its processes end with the block."""
        mould = self._mould(database)
        made = Site(self.folder() / "var")
        if database == "PostgreSQL":
            postgres, redis = self.servers
            redis.empty()
            made.database_url = postgres.new_database(template=mould.database_url)
            made.redis_url = redis.url
        made.prepare(mould=mould)
        try:
            yield made
        finally:
            made.kill()

    def _mould(self, database: str) -> Stack:
        if database not in self._moulds:
            url = self.servers[0].new_database() if database == "PostgreSQL" else ""
            self._moulds[database] = Stack(self.folder() / "var", database_url=url)
            self._moulds[database].prepare()
        return self._moulds[database]


def ask(stack: Stack, module: str, function: str, *arguments: Any) -> Any:
    """Call a function of tests.bench inside an installation, in a process of its own, and return its answer."""
    given = ", ".join(repr(argument) for argument in arguments)
    code = (
        f"import json, sys\nfrom tests.bench import {module}\n"
        f"sys.stdout.write(json.dumps({module}.{function}({given})) + '\\n')\n"
    )
    return stack.python(code, seconds=MAX_SECONDS)
