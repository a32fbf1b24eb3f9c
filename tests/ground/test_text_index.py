"""A search for a part of a text finds the same with the index as without it."""

from __future__ import annotations

import logging

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.models import Q
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from as2certs import text_index
from identities.filters import CertificateFilter, IdentityFilter
from identities.models import Identity, IdentityCertificate
from tests.rotations.notifications.expiries import DAY, NOW, certificate_fields, make_identity

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

SIGNS = "aAbBéÉßKİı%_\\\"'*^-. 1\n🔑"  # noqa: RUF001  # signs whose other case is another sign
TEXTS = st.text(SIGNS, min_size=1, max_size=12)
TABLES = ["identities_identity", "identities_identitycertificate", "partners_partner", "partners_partnercertificate"]


def names_found(words: str) -> set[str]:
    condition = text_index.contains(Identity, ("name", "as2_id"), words)
    return set(Identity.objects.filter(condition).values_list("name", flat=True))


def names_with(words: str) -> set[str]:
    """Return the names by a plain comparison with each row."""
    plain = Q(name__icontains=words) | Q(as2_id__icontains=words)
    return set(Identity.objects.filter(plain).values_list("name", flat=True))


def drop_indexes() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("DROP EXTENSION pg_trgm CASCADE")
            return
        for table in TABLES:
            cursor.execute(f"DROP TABLE {table}_trigrams")
            for event in ("insert", "update", "delete"):
                cursor.execute(f"DROP TRIGGER {table}_trigrams_{event}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(TEXTS, min_size=1, max_size=6), words=TEXTS, place=st.integers(0, 20), length=st.integers(1, 12))
@example(names=['a"b" OR c'], words='"b"', place=0, length=9)
@example(names=["ab%_\\cd"], words="%_\\", place=2, length=3)
@example(names=["aé", "ABÉ"], words="bé", place=0, length=2)
def test_the_index_finds_what_a_plain_comparison_finds(names: list[str], words: str, place: int, length: int) -> None:
    Identity.objects.all().delete()
    Identity.objects.bulk_create(Identity(name=name, as2_id=f"{name}{n}") for n, name in enumerate(names))
    for asked in (words, names[0][place % len(names[0]) :][:length], names[-1].upper(), names[-1].lower()):
        assert names_found(asked) == names_with(asked), asked


def test_a_changed_name_is_found_and_the_old_one_is_not() -> None:
    one = make_identity("Contoso")
    assert names_found("ntos") == {"Contoso"}
    Identity.objects.filter(pk=one.pk).update(name="Fabrikam", as2_id="FAB")
    assert (names_found("ntos"), names_found("abrik")) == (set(), {"Fabrikam"})
    one.delete()
    assert names_found("abrik") == set()
    with connection.cursor() as cursor:  # nothing of it remains that could be found for another row of the same key
        if connection.vendor == "sqlite":
            cursor.execute(
                "SELECT rowid FROM identities_identity_trigrams WHERE identities_identity_trigrams MATCH 'abr'"
            )
            assert cursor.fetchall() == []


@pytest.mark.parametrize("most", [0, 1000])
def test_searches_find_the_same_whether_they_find_few_or_many(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "MAX_FOUND", most)
    holder = make_identity("Contoso", notes="the old one")
    certificate = IdentityCertificate.objects.create(
        identity=holder, **certificate_fields(NOW + DAY) | {"subject": "CN=as2.example.com", "serial": "48879"}
    )
    other = make_identity("Fabrikam")
    IdentityCertificate.objects.create(
        identity=other, **certificate_fields(NOW + DAY) | {"sha1": "0" * 40, "serial": "1"}
    )
    beginning = certificate.sha256[:20]
    for words in ("onto", "to", "s2.EXAM", beginning.upper(), certificate.sha1, "BEEF", "48879", certificate.sha256):
        found = CertificateFilter({"q": words, "serves": "all"}, queryset=IdentityCertificate.objects.all()).qs
        assert list(found) == [certificate], words
    for words in ("onto", "e old", "o"):
        assert list(IdentityFilter({"q": words}, queryset=Identity.objects.all()).qs) == [holder], words


def test_the_database_uses_the_index() -> None:
    Identity.objects.bulk_create(Identity(name=f"ACME-{n}", as2_id=f"ID-{n}") for n in range(500))
    asked = Identity.objects.filter(text_index.contains(Identity, ("name", "as2_id"), "ME-321")).order_by()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert "identities_identity_trigrams" in asked.explain() or "VIRTUAL TABLE" in asked.explain()
    assert [one.name for one in asked] == ["ACME-321"]


def test_without_the_index_searches_find_the_same_and_a_check_says_so() -> None:
    make_identity("Contoso")
    assert text_index.unindexed(connection) == []
    drop_indexes()
    assert names_found("ntos") == {"Contoso"}
    assert text_index.unindexed(connection) == TABLES
    [warning] = [found for found in run_checks(databases=["default"]) if found.id == "as2certs.W004"]
    assert "identities_identity, " in warning.msg
    assert "manage.py migrate" in str(warning.hint)


def test_migrate_makes_a_missing_index_of_what_is_there() -> None:
    make_identity("Contoso")
    connection.check_constraints()  # PostgreSQL changes no table that has some to check
    drop_indexes()
    call_command("migrate", verbosity=0)
    assert text_index.unindexed(connection) == []
    assert names_found("ntos") == {"Contoso"}


def test_a_user_who_may_not_create_the_extension_has_no_index(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_identity("Contoso")
    drop_indexes()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE modest")
            cursor.execute("SET LOCAL ROLE modest")
    else:
        monkeypatch.setattr(text_index, "_sqlite_index", lambda model: ["CREATE VIRTUAL TABLE a USING missing (b)"])
    with caplog.at_level(logging.WARNING):
        text_index._create(connection, Identity)
    assert "Searches in identities_identity read each row" in caplog.text
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor, pytest.raises(DatabaseError, match="permission denied"):
            cursor.execute("SELECT 1 FROM identities_identity")  # it was this role that was tried
        return
    assert names_found("ntos") == {"Contoso"}
