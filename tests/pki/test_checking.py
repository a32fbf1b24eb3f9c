"""Findings about certificates: reason and advice, errors first, at each boundary."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from as2certs import pki
from as2certs.pki import CertificateFinding, Description, KnownCertificate, Role
from as2certs.pki.keys import KeyFacts
from tests.certificates import make_ca, make_pair
from tests.pki.sentences import assert_one_sentence

GOOD = pki.describe(make_pair("ACME-PROD", organization="ACME")[0])
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OWN: tuple[Role, ...] = ("sign", "decrypt")


def findings(
    description: Description,
    roles: Collection[Role] = OWN,
    *,
    environment: Literal["production", "test"] = "production",
    now: datetime = NOW,
    **others: Any,
) -> list[CertificateFinding]:
    found = pki.check_certificate(description, pki.IntendedUse(roles, environment), now=now, **others)
    for finding in found:
        assert_one_sentence(finding.reason)
        assert_one_sentence(finding.advice)
    levels = [finding.level for finding in found]
    assert levels == sorted(levels), "errors come first"
    return found


def codes(*args: object, **kwargs: object) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in findings(*args, **kwargs)]  # type: ignore[arg-type]


def known(**changes: object) -> KnownCertificate:
    base = KnownCertificate(
        holder="Northwind",
        same_holder=False,
        environment="production",
        sha256="0" * 64,
        public_key_sha256="1" * 64,
        issuer="CN=Somebody",
        serial=1,
        not_after=NOW,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("roles", [["sign"], ["decrypt"], ["verify"], ["encrypt"], OWN, ["verify", "encrypt"]])
def test_a_good_certificate_has_no_findings(roles: list[Role]) -> None:
    assert findings(GOOD, roles) == []


def test_of_an_allowed_expired_certificate_only_the_expiry_is_a_warning() -> None:
    later = GOOD.not_after + SECOND
    found = findings(replace(GOOD, key_size=1024), now=later)
    assert {f.level for f in found} == {"error"}
    assert [(f.code, f.level) for f in pki.allow_expired(found)] == [
        ("rsa-too-small", "error"),
        ("expired", "warning"),
    ]


def test_an_expired_certificate_is_an_error_from_the_second_after_its_end() -> None:
    assert codes(GOOD, now=GOOD.not_after) == []
    assert codes(GOOD, now=GOOD.not_after + SECOND) == [("expired", "error")]


def test_a_certificate_that_is_not_yet_valid_is_a_warning_until_it_begins() -> None:
    assert codes(GOOD, now=GOOD.not_before - SECOND) == [("not-yet-valid", "warning")]
    assert codes(GOOD, now=GOOD.not_before) == []


def test_a_certificate_that_ends_before_it_begins_is_an_error() -> None:
    odd = replace(GOOD, not_after=GOOD.not_before - SECOND, problems=("it ends before it begins",))
    assert codes(odd) == [("never-valid", "error")]


@pytest.mark.parametrize(
    ("not_before", "last_good_end"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)),
        (datetime(2024, 2, 29, tzinfo=UTC), datetime(2029, 3, 1, tzinfo=UTC)),
        (datetime(2023, 2, 28, 23, tzinfo=UTC), datetime(2028, 2, 28, 23, tzinfo=UTC)),
    ],
)
def test_a_lifetime_over_five_years_is_a_warning(not_before: datetime, last_good_end: datetime) -> None:
    assert codes(replace(GOOD, not_before=not_before, not_after=last_good_end)) == []
    assert codes(replace(GOOD, not_before=not_before, not_after=last_good_end + SECOND)) == [
        ("long-lifetime", "warning")
    ]


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (512, [("rsa-too-small", "error")]),
        (2047, [("rsa-too-small", "error")]),
        (2048, []),
        (3072, []),
        (4096, []),
        (4097, [("rsa-too-large", "warning")]),
        (16384, [("rsa-too-large", "warning")]),
    ],
)
def test_rsa_keys_are_neither_too_small_nor_too_large(bits: int, expected: list[tuple[str, str]]) -> None:
    assert codes(replace(GOOD, key_size=bits)) == expected


@pytest.mark.parametrize(
    ("hash_name", "expected"),
    [
        ("md2", [("weak-signature", "error")]),
        ("md5", [("weak-signature", "error")]),
        ("sha1", [("weak-signature", "warning")]),
        ("sha256", []),
        ("sha512", []),
    ],
)
def test_weak_signatures_are_found(hash_name: str, expected: list[tuple[str, str]]) -> None:
    assert codes(replace(GOOD, signature_hash=hash_name)) == expected


@pytest.mark.parametrize(
    ("usages", "roles", "needed"),
    [
        (("keyEncipherment",), ["sign"], "digitalSignature"),
        (("keyEncipherment",), ["verify"], "digitalSignature"),
        (("keyCertSign", "cRLSign"), ["verify"], "digitalSignature"),
        (("digitalSignature",), ["decrypt"], "keyEncipherment"),
        (("digitalSignature",), ["encrypt"], "keyEncipherment"),
        (("digitalSignature", "dataEncipherment"), ["encrypt"], "keyEncipherment"),
        (("digitalSignature",), OWN, "keyEncipherment"),
    ],
)
def test_a_key_usage_that_forbids_the_role_is_an_error(usages: tuple[str, ...], roles: list[Role], needed: str) -> None:
    (finding,) = findings(replace(GOOD, key_usages=usages), roles)
    assert (finding.code, finding.level) == ("key-usage", "error")
    assert needed in finding.reason
    assert usages[0] in finding.reason


@pytest.mark.parametrize(
    ("usages", "roles"),
    [
        ((), OWN),
        (("digitalSignature",), ["sign"]),
        (("nonRepudiation",), ["verify"]),
        (("keyEncipherment",), ["decrypt"]),
        (("keyEncipherment",), ["encrypt"]),
    ],
)
def test_a_key_usage_that_allows_the_role_is_no_finding(usages: tuple[str, ...], roles: list[Role]) -> None:
    assert codes(replace(GOOD, key_usages=usages), roles) == []


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ((), []),
        (("emailProtection",), []),
        (("serverAuth", "clientAuth"), []),
        (("codeSigning", "emailProtection"), []),
        (("codeSigning",), [("extended-key-usage", "warning")]),
    ],
)
def test_an_extended_usage_for_something_else_is_a_warning(
    usages: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    assert codes(replace(GOOD, extended_key_usages=usages)) == expected


@pytest.mark.parametrize(
    ("key_type", "roles", "level"),
    [
        ("EC P-256", ["decrypt"], "error"),
        ("EC P-256", ["encrypt"], "error"),
        ("EC P-256", ["sign"], "warning"),
        ("Ed25519", ["sign"], "error"),
        ("Ed25519", ["encrypt"], "error"),
        ("DSA", ["verify"], "warning"),
        ("DSA", ["decrypt"], "error"),
        ("RSA-PSS", ["sign"], "warning"),
        ("RSA-PSS", ["decrypt"], "error"),
        ("unknown (1.2.3)", ["verify"], "error"),
        ("ML-DSA-44", ["verify"], "error"),
    ],
)
def test_a_key_that_is_not_rsa_is_a_finding_in_roles_that_need_rsa(
    key_type: str, roles: list[Role], level: str
) -> None:
    size = 2048 if key_type in ("DSA", "RSA-PSS") else None
    assert codes(replace(GOOD, key_type=key_type, key_size=size), roles) == [("key-type", level)]


def test_a_ca_certificate_is_an_error_and_a_self_signed_one_marked_as_ca_a_warning() -> None:
    root = make_ca()
    intermediate = pki.describe(make_ca("Example Issuing CA", issuer=root)[0])
    assert ("ca-certificate", "error") in codes(intermediate, ["verify"])
    assert codes(replace(GOOD, is_ca=True)) == [("ca-certificate", "warning")]


def test_problems_of_the_description_become_findings() -> None:
    assert codes(replace(GOOD, problems=("its extensions can't be read",))) == [("odd-form", "warning")]


def test_the_same_issuer_and_serial_at_the_same_holder_is_an_error() -> None:
    twin = known(same_holder=True, holder="ACME-PROD", issuer=GOOD.issuer, serial=GOOD.serial)
    assert codes(GOOD, known=[twin]) == [("same-issuer-serial", "error")]
    assert codes(GOOD, known=[replace(twin, same_holder=False)]) == []
    assert codes(GOOD, known=[replace(twin, serial=GOOD.serial + 1)]) == []
    itself = replace(twin, sha256=GOOD.sha256, public_key_sha256=GOOD.public_key_sha256)
    assert codes(GOOD, known=[itself]) == []


def test_a_certificate_or_key_of_another_holder_is_a_warning() -> None:
    same = known(sha256=GOOD.sha256, public_key_sha256=GOOD.public_key_sha256)
    (finding,) = findings(GOOD, known=[same])
    assert (finding.code, finding.level) == ("same-certificate-elsewhere", "warning")
    assert "Northwind" in finding.reason
    assert codes(GOOD, known=[known(public_key_sha256=GOOD.public_key_sha256)]) == [("same-key-elsewhere", "warning")]


def test_a_certificate_or_key_in_both_environments_is_a_warning() -> None:
    rehearsal = known(
        holder="ACME-TEST", same_holder=True, environment="test", public_key_sha256=GOOD.public_key_sha256
    )
    assert codes(GOOD, known=[rehearsal]) == [("same-key-both-environments", "warning")]
    assert codes(GOOD, environment="test", known=[rehearsal]) == []
    foreign = replace(rehearsal, same_holder=False, sha256=GOOD.sha256)
    assert codes(GOOD, known=[foreign]) == [
        ("same-certificate-elsewhere", "warning"),
        ("same-certificate-both-environments", "warning"),
    ]


def test_a_renewal_with_the_same_key_at_the_same_holder_is_no_finding() -> None:
    assert codes(GOOD, known=[known(same_holder=True, public_key_sha256=GOOD.public_key_sha256)]) == []


def test_a_successor_that_ends_days_before_is_a_warning() -> None:
    successor = replace(GOOD, sha256="2" * 64, serial=GOOD.serial + 1, public_key_sha256="4" * 64)
    for later, expected in (
        (-timedelta(days=1), [("ends-before-predecessor", "warning")]),
        (timedelta(0), []),
        (SECOND, []),
    ):
        ends = replace(successor, not_after=GOOD.not_after + later)
        assert codes(ends, predecessor=GOOD) == expected


def test_a_successor_is_neither_the_same_certificate_nor_of_the_same_serial() -> None:
    assert codes(GOOD, predecessor=GOOD) == [("same-as-predecessor", "error")]
    twin = replace(GOOD, sha256="2" * 64, not_after=GOOD.not_after + SECOND, public_key_sha256="4" * 64)
    assert codes(twin, predecessor=GOOD) == [("same-issuer-serial", "error")]
    old = known(same_holder=True, sha256=GOOD.sha256, issuer=GOOD.issuer, serial=GOOD.serial)
    assert codes(twin, predecessor=GOOD, known=[old]) == [("same-issuer-serial", "error")]


def test_a_successor_that_keeps_the_key_is_a_warning() -> None:
    renewed = replace(GOOD, sha256="2" * 64, serial=GOOD.serial + 1, not_after=GOOD.not_after + SECOND)
    assert codes(renewed, predecessor=GOOD) == [("same-key-as-predecessor", "warning")]
    assert codes(replace(renewed, public_key_sha256="4" * 64), predecessor=GOOD) == []


def test_a_key_that_does_not_belong_is_an_error_that_shows_both_sizes_or_fingerprints() -> None:
    assert codes(GOOD, key=KeyFacts("RSA", 2048, GOOD.public_key_sha256)) == []
    (finding,) = findings(GOOD, key=KeyFacts("RSA", 3072, "3" * 64))
    assert (finding.code, finding.level) == ("key-mismatch", "error")
    assert "the key is RSA 3072, the certificate holds RSA 2048" in finding.reason
    (finding,) = findings(GOOD, key=KeyFacts("RSA", 2048, "3" * 64))
    assert "33:33:…:33" in finding.reason
    assert pki.short_fingerprint(GOOD.public_key_sha256) in finding.reason


def test_all_findings_of_a_bad_certificate_come_at_once_and_errors_first() -> None:
    bad = replace(GOOD, key_size=1024, signature_hash="sha1", is_ca=True, key_usages=("keyCertSign",))
    found = codes(bad, now=GOOD.not_after + SECOND)
    assert [level for _, level in found] == ["error"] * 4 + ["warning"] * 2
    assert {code for code, _ in found} == {
        "expired",
        "rsa-too-small",
        "key-usage",
        "weak-signature",
        "ca-certificate",
    }
