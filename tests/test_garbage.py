"""Every address, asked with what no page of ours would send: nothing breaks, and nothing changes by looking."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.core import serializers
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.test import Client
from django.urls import get_resolver, reverse

from as2certs.accounts.models import User
from as2certs.paging import PER_PAGE
from partners.models import Partner
from tests.attack.addresses import everywhere, of_application, root_client
from tests.test_rights import BY_KEY, World, client_for, patterns

pytestmark = pytest.mark.django_db

T = TypeVar("T")

#: `make test` sends each address its own part of all that is sent, and each of these to some address.
some_or_all = pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.extended)])

#: Names that some page reads from its address.
NAMES = [
    "q",
    "page",
    "per_page",
    "sort",
    "environment",
    "keeps_both",
    "software",
    "expires",
    "archived",
    "identity",
    "partner",
    "as2_system",
    "serves",
    "state",
    "needs",
    "side",
    "what",
    "who",
    "verb",
    "through",
    "address",
    "since",
    "until",
    "about",
    "below",
    "month",
    "format",
    "old",
    "new",
    "roles",
    "certificate",
    "rotation",
    "seen",
    "to",
    "next",
    "e",
    "o",
    "all",
    "p",
    "_popup",
    "_to_field",
    "app_label",
    "model_name",
    "field_name",
    "term",
    "show",
]

#: Values that none of them means.
VALUES = (
    "",
    "zzz",
    "-1",
    "0",
    "9" * 30,
    "9" * 5000,
    "a\x00b",
    "'\"<script>alert(1)</script>",
    "²",
    "٣",
    "9999-12-31",
    "0001-01-01",
    "00000000-0000-0000-0000-000000000000",
    "\u202emoc.live\r\nX-Evil: 1",
    "%" * 3000,
)

#: Those of them that one parameter alone may stumble over.
ODD = ("-1", "9" * 30, "a\x00b", "²", "9999-12-31", "0001-01-01", "00000000-0000-0000-0000-000000000000")

#: Whole queries that are no lists of names and values, or say the same twice.
QUERIES = (
    "%ff%fe=%ff",
    "=&&=&;",
    "q=a&q=b&page=1&page=zzz&sort=name&sort=-name&sort=zzz&sort=&sort=-",
    "page=99999999999999999999&per_page=99999999999999999999",
    "per_page=0&q[]=1&q[x]=2&q=%ED%A0%80",
    "per_page=-5",
)

#: What each list reads from its address beside its filters.
ALWAYS = {"page", "sort", "per_page", "below", "month", "q", "identity", "partner", "old", "new"}

#: Bodies that are no form at all.
RAW = (
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n"),
    ("application/json", b'{"a": [1]}'),
    ("application/x-www-form-urlencoded", b"%ff=%00&reason=%ed%a0%80"),
)


@pytest.fixture
def world(settings: LazySettings, tmp_path: Path) -> World:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_in": str(tmp_path)}
    return World()


@contextmanager
def undone() -> Iterator[None]:
    """Take back what is done to the database inside."""
    with transaction.atomic():
        mark = transaction.savepoint()
        yield
        transaction.savepoint_rollback(mark)


def part(things: Sequence[T], number: int, every: int) -> Sequence[T]:
    """Return one in ``every`` of these things, other ones for the next number."""
    return things[number % every :: every]


def client_like(role: str) -> Client:
    client = root_client() if role == "root" else client_for(role)
    client.raise_request_exception = False
    return client


def broke(answer: Any) -> str:
    """Return how a page broke; empty when it answered."""
    if answer.status_code < 500 or answer.status_code == 503:
        return ""
    error = getattr(answer, "exc_info", None)
    return f"{answer.status_code} {error[1]!r}" if error else str(answer.status_code)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: thousands of refusals are what these tests are about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@some_or_all
@pytest.mark.parametrize("role", ["root", pytest.param("viewer", marks=pytest.mark.extended)])
def test_no_question_breaks_a_page(world: World, role: str, every: int) -> None:
    client = client_like(role)
    addresses = everywhere(world) if role == "root" else of_application(world)
    found = []
    for number, (name, address) in enumerate(addresses.items()):
        # Pages of the admin share their code: a few values tell.
        values = VALUES[::3] if ":" not in name and role == "root" else VALUES[6:7]
        queries = (*QUERIES[2:3], *(urlencode(dict.fromkeys(NAMES, value)) for value in values))
        for query in part(queries, number, min(every, len(queries))):
            with undone():
                if how := broke(client.get(f"{address}?{query}")):
                    found.append((name, query[:80], how))
    assert not found, found


@some_or_all
def test_no_single_parameter_breaks_a_list(world: World, every: int) -> None:
    client = client_like("root")
    found = []
    for number, (name, address) in enumerate(of_application(world).items()):
        if not name.endswith("-list") and name not in ("search", "calendar", "rotation-create"):
            continue
        read = ALWAYS | set(getattr((client.get(address).context or {}).get("filter"), "filters", ()))
        queries = [urlencode({parameter: value}) for parameter in sorted(read) for value in ODD]
        for query in part((*QUERIES, *queries), number, every):
            if how := broke(client.get(f"{address}?{query}")):
                found.append((name, query[:80], how))
    assert not found, found


def test_a_list_shows_no_more_rows_than_it_wants_to(world: World) -> None:
    Partner.objects.bulk_create(Partner(name=f"P{n:03}", as2_id=f"P{n:03}") for n in range(PER_PAGE + 30))
    answer = client_like("viewer").get(reverse("partner-list"), {"per_page": "1000000"})
    assert len(answer.context["table"].page.object_list) == PER_PAGE


def fields_of(answer: Any) -> set[str]:
    """Return the names of the fields that a page's forms send; a file has none."""
    if not answer["Content-Type"].startswith("text/html"):
        return set()
    return set(re.findall(r'<(?:input|select|textarea)[^>]* name="([^"]+)"', answer.content.decode()))


@some_or_all
@pytest.mark.parametrize("role", ["root", pytest.param("viewer", marks=pytest.mark.extended)])
def test_no_answer_to_a_form_breaks_it(world: World, role: str, every: int) -> None:
    client = client_like(role)
    addresses = everywhere(world) if role == "root" else of_application(world)
    user = User.objects.get(username="root" if role == "root" else "a viewer")
    found = []
    for number, (name, address) in enumerate(part(list(addresses.items()), 1, min(every, 3))):
        if name in ("logout", "demo-load", "admin:logout"):
            continue
        page = client.get(address) if role == "root" else None
        is_form = page is not None and page.status_code == 200 and page["Content-Type"].startswith("text/html")
        names = fields_of(page) if is_form else {"reason", "name"}
        values = VALUES[1::4] if ":" not in name and role == "root" else VALUES[6:7]
        bodies: list[dict[str, object]] = [dict.fromkeys(names, value) for value in values]
        bodies += [{}, {n: [["a", "b"], "1"][len(n) % 2] for n in names}]
        bodies.append({n: SimpleUploadedFile("<b>\r\nX: 1.pem", b"\x30\x80\x00") for n in list(names)[:9]})
        for body in part(bodies, number, min(every, len(bodies))):
            with undone():
                if how := broke(client.post(address, body)):
                    found.append((name, str(body)[:80], how))
        client.force_login(user)
        for kind, raw in part(RAW, number, min(every, len(RAW))):
            with undone():
                if how := broke(client.post(address, raw, content_type=kind)):
                    found.append((name, kind, how))
    assert not found, found


def contents() -> dict[str, str]:
    """Return a fingerprint of every table but those of sessions and of counted requests."""
    return {
        model._meta.label: sha256(serializers.serialize("json", model._base_manager.all()).encode()).hexdigest()
        for model in apps.get_models()
        if model._meta.label not in ("sessions.Session", "rotations.Tries")
    }


@some_or_all
def test_looking_changes_nothing(world: World, every: int) -> None:
    client = client_like("root")
    before = contents()
    for number, (name, address) in enumerate(everywhere(world).items()):
        for method in (client.get, client.head) if number % every == 0 else (client.get,):
            assert not broke(method(address)), name
    assert contents() == before


@some_or_all
def test_nothing_is_done_for_a_form_of_another_site(world: World, every: int) -> None:
    client = root_client(checks_csrf=True)
    before = contents()
    for number, (name, address) in enumerate(everywhere(world).items()):
        others = (client.put, client.patch, client.delete)
        for method in (client.post, *part(others, number, min(every, len(others)))):
            # What machines use has no form that could be forged: it asks for what no browser adds.
            refused = {400, 403, 404, 405} if name in BY_KEY else {403}
            assert method(address).status_code in refused, (name, method)
    assert contents() == before


@some_or_all
def test_the_public_id_of_one_thing_opens_nothing_else(world: World, every: int) -> None:
    client = client_like("root")
    uids = {kind: thing.uid for kind, thing in world.objects.items()}
    wrong = []
    for number, pattern in enumerate(patterns(get_resolver())):
        name = pattern.name or ""
        own = [kind for kind in uids if name.startswith(f"{kind}-")]
        if "uid" not in pattern.pattern.converters:
            continue
        right = world_uid(world, name, own)
        others = [(kind, uid) for kind, uid in uids.items() if uid != right]
        for kind, uid in part(others, number, every):
            given = {key: uid if key == "uid" else "notify" for key in pattern.pattern.converters}
            with undone():
                statuses = {method(reverse(name, kwargs=given)).status_code for method in (client.get, client.post)}
            if not statuses <= {404, 405}:
                wrong.append((name, kind, statuses))
    assert not wrong, wrong


def world_uid(world: World, name: str, own: list[str]) -> UUID:
    if of := {"contact-create": "partner", "as2-mdn": "probe"}.get(name):
        return UUID(str(world.objects[of].uid))
    uid: UUID = world.objects[max(own, key=len)].uid
    return uid
