"""What processes hold in memory, beside bare ones, and whether the web processes grow."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import celery
import redis
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from as2certs.accounts.models import User
from identities.models import IdentityCertificate
from tests.bench import inventory
from tests.bench.figures import Figure, Found, Scale
from tests.bench.grounds import Grounds, ask
from tests.servers import children_of, free_port, wait_until
from tests.stack import ROOT

#: What is counted as the whole: two web processes, two children of a worker, and their parents.
PROCESSES = ("web", "worker", "beat", "loop", "mail")
CERTIFICATES = 1000
TICKS = 5
LIMIT = (
    "The processes are weighed after pages of all kinds. A web process has loaded every view, form and table by then, "
    "and holds the lists that it last showed; the bare one has shown a login page."
)
PEOPLE = 4


def held(grounds: Grounds, scale: Scale) -> Found:
    """Let every process work a little, and weigh them."""
    requests = scale(100_000)
    with grounds.site() as site:
        site.start_idle(*PROCESSES)
        running = {process.name: process.pid for process in site.processes}
        pages = _Pages(site.url, *ask(site, "memory", "log_in"))
        _ask(pages, requests // 5)
        early = _weight(_family(running["web"]))
        _ask(pages, requests - requests // 5)
        grown = _weight(_family(running["web"])) / early
        web = _dearest(children_of(running["web"]))
        child = _dearest(children_of(running["worker"]))
        whole = sum(_weight(_family(pid)) for pid in running.values())
    bare_web, bare_child = _bare_web(grounds), _bare_child(grounds)
    return Found(
        [
            Figure("web process, of a bare Django process", web / bare_web, 2, told=_told(web, bare_web), limit=LIMIT),
            Figure("Celery child, of a bare one", child / bare_child, 2, told=_told(child, bare_child)),
            Figure("whole stack (2 web, 2 children, beat, loop, mail)", whole, 500, "MB", limit=LIMIT),
            Figure(f"web processes after {requests:,} requests for a mix of pages, of after a fifth", grown, 1.05),
        ]
    )


def _told(ours: float, bare: float) -> str:
    return f"{ours:.0f} MB, bare {bare:.0f} MB"


@dataclass(frozen=True)
class _Pages:
    """Pages that are asked for in turn, as somebody with this session if it is given."""

    url: str
    session: str
    paths: Sequence[str]

    def request(self, number: int) -> urllib.request.Request:
        headers = {"Cookie": self.session} if self.session else {}
        return urllib.request.Request(self.url + self.paths[number % len(self.paths)], headers=headers)  # noqa: S310


def _ask(pages: _Pages, times: int) -> None:
    """Ask for so many pages, as many at once as there are people who ask."""

    def get(number: int) -> None:
        request = pages.request(number)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  # our own address
            answer.read()
            assert answer.url == request.full_url, f"{request.full_url} leads to {answer.url}"

    with ThreadPoolExecutor(PEOPLE) as people:
        for _ in people.map(get, range(times)):
            pass


def _family(pid: int) -> list[int]:
    return [pid, *(one for child in children_of(pid) for one in _family(child))]


def _weight(pids: Sequence[int]) -> float:
    """Return the megabytes that these processes hold; what several share is divided among them (PSS)."""
    return sum(_megabytes(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids)


def _dearest(pids: Sequence[int]) -> float:
    """Return the megabytes of the largest of these processes, with all that it shares (RSS)."""
    return max(_megabytes(f"/proc/{pid}/smaps_rollup", "Rss") for pid in pids)


def _megabytes(path: str, what: str) -> float:
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _bare_web(grounds: Grounds) -> float:
    port = free_port()
    options = ["--workers", "2", "--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    argv = ["-m", "gunicorn", *options, "--bind", f"127.0.0.1:{port}", "tests.bench.bare_django"]
    with _running(grounds, argv) as pid:
        wait_until(partial(_answers, f"http://127.0.0.1:{port}"), what="the bare web process")
        _ask(_Pages(f"http://127.0.0.1:{port}", "", ["/login/"]), 50)
        return _dearest(children_of(pid))


def _answers(address: str) -> bool:
    try:
        _ask(_Pages(address, "", ["/login/"]), 1)
    except OSError:
        return False
    return True


def _bare_child(grounds: Grounds) -> float:
    url = grounds.servers[1].url
    argv = ["-m", "celery", "--quiet", "-A", "tests.bench.bare_celery", "worker", "--concurrency", "2"]
    with _running(grounds, argv, REDIS_URL=url) as pid:
        wait_until(lambda: len(children_of(pid)) == 2, what="the bare worker")
        queue = celery.Celery("bare", broker=url)
        for _ in range(TICKS):
            queue.send_task("tests.bench.bare_celery.nothing")
        with redis.Redis.from_url(url) as connection:
            wait_until(lambda: connection.llen("celery") == 0, what="the bare worker’s tasks")
        return _dearest(children_of(pid))


@contextmanager
def _running(grounds: Grounds, argv: list[str], **environment: str) -> Iterator[int]:
    """Run a Python program in a folder of its own, where no settings of ours are found; yield its process id."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *argv],
        cwd=grounds.folder(),
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=15)


# Inside the installation.


def log_in() -> tuple[str, list[str]]:
    """Fill the inventory, and return the cookie of a session and the paths of pages of all kinds."""
    inventory.fill(CERTIFICATES, due=CERTIFICATES // 27, now=timezone.now())
    client = Client()
    client.force_login(User.objects.create_superuser("ada", "ada@example.com"))
    some = IdentityCertificate.objects.select_related("identity").order_by("id")[CERTIFICATES // 3]
    lists = ("identity-list", "certificate-list", "partner-list", "partner-certificate-list", "rotation-list")
    paths = [
        reverse("home"),
        *(reverse(name) for name in lists),
        f"{reverse('certificate-list')}?q={some.sha256}",
        f"{reverse('search')}?q={some.identity.as2_id}",
        some.identity.get_absolute_url(),
        some.get_absolute_url(),
        reverse("rotation-create"),
    ]
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}", paths
