"""What pages cost with a large inventory: the list of certificates, its search, home, and pages of one thing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from as2certs import paging
from as2certs.accounts.models import User
from identities.models import Identity, IdentityCertificate
from tests.bench import inventory, plain
from tests.bench.figures import Figure, Found, Scale, percentile
from tests.bench.grounds import DATABASES, Grounds, ask


@dataclass(frozen=True)
class Measured:
    """Seconds at p95, and the queries of the dearest page of its kind."""

    seconds: float
    queries: int


def lists(grounds: Grounds, scale: Scale) -> Found:
    """Ask for pages with 10,000 and with 100,000 certificates, on either database."""
    found = Found()
    for database in DATABASES:
        with grounds.site(database) as site:
            sizes = (scale(10_000), scale(100_000))
            few, many = (
                {name: Measured(*values) for name, values in ask(site, "pages", "measure", size).items()}
                for size in sizes
            )
        found.figures += _figures(database, sizes, few, many)
    return found


def _figures(
    database: str, sizes: tuple[int, int], few: dict[str, Measured], many: dict[str, Measured]
) -> list[Figure]:
    page, bare, larger = few["list"], few["plain"], many["list"]
    small, large = (f"{size:,}" for size in sizes)
    return [
        Figure(
            f"{database}: list by expiry, 100 of {small}, p95, of a plain view",
            page.seconds / bare.seconds,
            6,
            told=_told(page, bare),
        ),
        Figure(
            f"{database}: list by expiry, 100 of {large}, p95, of {small}",
            larger.seconds / page.seconds,
            1.3,
            told=_told(larger, page),
        ),
        Figure(
            f"{database}: list by expiry, more queries with {large} than with {small}",
            larger.queries - page.queries,
            0,
            "queries",
            told=f"{page.queries} queries",
        ),
        Figure(
            f"{database}: search in {large}, p95, of the list",
            many["search"].seconds / larger.seconds,
            1.5,
            told=_told(many["search"], larger),
        ),
        Figure(
            f"{database}: home and pages of one thing, {large}, p95, of the list",
            max(many[name].seconds for name in OTHERS) / larger.seconds,
            2,
            limit=HOME_LIMIT,
            told=", ".join(f"{name} {1000 * many[name].seconds:.0f} ms" for name in OTHERS),
        ),
        Figure(
            f"{database}: home and pages of one thing, queries",
            max(many[name].queries for name in OTHERS),
            15,
            "queries",
            told=", ".join(f"{name} {many[name].queries}" for name in OTHERS),
        ),
    ]


OTHERS = ("home", "identity", "certificate")
HOME_LIMIT = (
    "Home answers 13 questions about all that there is, such as whom no certificate serves, and draws a year; the list "
    "is one page of one table."
)


def _told(measured: Measured, floor: Measured) -> str:
    return f"{1000 * measured.seconds:.0f} ms, floor {1000 * floor.seconds:.0f} ms"


# Inside the installation.

TIMES = 40


@override_settings(ROOT_URLCONF="tests.bench.plain")
def measure(certificates: int) -> dict[str, Any]:
    """Bring the inventory to this size, and return seconds and queries of each kind of page, as ``Measured`` has."""
    inventory.fill(certificates, due=certificates // 27, now=timezone.now())
    inventory.look_again()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(_somebody())
    some = IdentityCertificate.objects.select_related("identity").order_by("id")[certificates // 3]
    addresses = {
        "plain": ["/plain/"],
        "list": [f"{reverse('certificate-list')}?sort=not_after"],
        "search": [f"{reverse('certificate-list')}?q={words}" for words in _words(some)],
        "home": [reverse("home")],
        "identity": [some.identity.get_absolute_url()],
        "certificate": [some.get_absolute_url()],
    }
    with mock.patch.object(paging, "PER_PAGE", plain.ROWS):
        queries = {kind: max(_queries(client, one) for one in urls) for kind, urls in addresses.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in addresses}
        for _ in range(TIMES):  # in turn, so that whatever else the machine does meets all alike
            for kind, urls in addresses.items():
                seconds[kind] += [_seconds(client, one) for one in urls]
    return {kind: (percentile(seconds[kind], 95), queries[kind]) for kind in addresses}


def _words(some: IdentityCertificate) -> Sequence[str]:
    holder: Identity = some.identity
    return (
        holder.name,
        holder.as2_id,
        ":".join(some.sha256[n : n + 2] for n in range(0, 64, 2)),
        some.serial,
        "ACME-ID-1",  # every fourth
    )


def _somebody() -> User:
    found = User.objects.filter(username="ada").first()
    return found or User.objects.create_superuser("ada", "ada@example.com")


def _queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        _seconds(client, address)
    return len(queries)


def _seconds(client: Client, address: str) -> float:
    began = time.perf_counter()
    answer = client.get(address)
    assert answer.status_code == 200, f"{address} answers {answer.status_code}"
    return time.perf_counter() - began
