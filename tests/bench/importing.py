"""What taking over an inventory costs: 10,000 certificates by a list and a folder, each with all that belongs to it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import combinations
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    generate_private_key,
)
from django.core.management import call_command
from django.utils import timezone

from as2certs import pki
from partners.models import Partner, PartnerCertificate, PartnerService
from tests.bench.figures import Figure, Found, Scale
from tests.bench.grounds import DATABASES, Grounds, ask
from tests.certificates import cert_pem, make_pair

BATCH = 500

LIMIT = (
    "An import also compares each certificate with all that are known, puts it into its two roles and says both in "
    "the trail, and of new partners adds these as well: six to eight rows where its floor adds one."
)


def run(grounds: Grounds, scale: Scale) -> Found:
    """Import 10,000 certificates, of partners that are known and of new ones, on either database."""
    found = Found()
    for database in DATABASES:
        count = scale(10_000)
        with grounds.site(database) as site:
            took = ask(site, "importing", "measure", count)
        for whose in ("known", "new"):
            rate = took["floor"] / took[whose]
            name = f"{database}: bulk import of {count:,}, {whose} partners, rate, of parse and bulk_create"
            told = f"{count / took[whose]:,.0f} a second, floor {count / took['floor']:,.0f}"
            found.figures.append(Figure(name, rate, 0.8, at_least=True, told=told, limit=LIMIT))
        if took["stored"] != 3 * count:
            found.wrong.append(f"{database}: {took['stored']} certificates came of 3 times {count}")
    return found


# Inside the installation.


def measure(count: int) -> dict[str, float]:
    """Return the seconds of parsing and storing certificates alone, and of importing as many in either way."""
    folder = Path(tempfile.mkdtemp(prefix="as2certs-bench-"))
    try:
        _partners("floor", count)
        _partners("known", count)
        keys = _keys(3 * count)
        files = {kind: list(_files(folder, kind, count, keys)) for kind in ("floor", "known", "new")}
        floor = _seconds(lambda: _read_and_store(files["floor"]))
        known = _seconds(lambda: _import(folder, "known"))
        new = _seconds(lambda: _import(folder, "new"))
    finally:
        shutil.rmtree(folder)
    services = PartnerService.objects.count()
    assert services == 4 * count, f"{services} roles are served by {count} certificates twice"
    return {"floor": floor, "known": known, "new": new, "stored": PartnerCertificate.objects.count()}


def _partners(kind: str, count: int) -> None:
    Partner.objects.bulk_create((Partner(name=f"{kind} {n}", as2_id=f"{kind}-{n}") for n in range(count)), BATCH)


def _files(folder: Path, kind: str, count: int, keys: Iterator[RSAPrivateKey]) -> Iterator[Path]:
    """Write certificates and the list of them."""
    now: datetime = timezone.now()
    (folder / kind).mkdir()
    rows = ["name;as2_id;certificate"]
    for n, key in zip(range(count), keys, strict=False):
        leaf, _ = make_pair(
            f"{kind}-{n}",
            not_before=now - timedelta(days=1),
            not_after=now + timedelta(days=700, seconds=n),
            key=key,
        )
        path = folder / kind / f"{n}.pem"
        path.write_bytes(cert_pem(leaf))
        rows.append(f"{kind} {n};{kind}-{n};{n}.pem")
        yield path
    (folder / f"{kind}.csv").write_text("\n".join(rows))


def _keys(count: int) -> Iterator[RSAPrivateKey]:
    """Return so many different RSA keys: each two primes of a few make one, which takes no time."""
    primes: list[int] = []
    while len(primes) * (len(primes) - 1) // 2 < count:
        numbers = generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
        primes += [numbers.p, numbers.q]
    for p, q in combinations(primes, 2):
        d = pow(65537, -1, (p - 1) * (q - 1))
        public = RSAPublicNumbers(65537, p * q)
        yield RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key(
            unsafe_skip_rsa_key_validation=True
        )


def _read_and_store(files: list[Path]) -> None:
    now = timezone.now()
    partners = list(Partner.objects.filter(as2_id__startswith="floor-").order_by("pk"))
    rows = []
    for partner, file in zip(partners, files, strict=True):
        columns = PartnerCertificate.columns_from(pki.read_public(file.read_bytes(), partner=True))
        rows.append(
            PartnerCertificate(partner=partner, **columns, source="uploaded", created_at=now, created_by="bench")
        )
    PartnerCertificate.objects.bulk_create(rows, BATCH)


def _import(folder: Path, kind: str) -> None:
    call_command("import_inventory", str(folder / f"{kind}.csv"), certificates=folder / kind, verbosity=0)


def _seconds(do: Callable[[], None]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began
