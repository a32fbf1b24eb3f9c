"""Check whether a certificate is fit for its roles: findings, each with its reason and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from as2certs.pki.describing import Description, shorten
from as2certs.pki.fingerprints import short_fingerprint
from as2certs.pki.keys import KeyFacts, describe_mismatch

Role = Literal["sign", "decrypt", "verify", "encrypt"]

ROLES: tuple[Role, ...] = ("sign", "decrypt", "verify", "encrypt")
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
MAX_YEARS = 5

_SIGNING_ROLES = frozenset({"sign", "verify"})
_ENCRYPTING_ROLES = frozenset({"decrypt", "encrypt"})
_WEAK_HASHES = {"md2": "MD2", "md4": "MD4", "md5": "MD5"}
_MAIL_USAGES = frozenset({"emailProtection", "anyExtendedKeyUsage", "clientAuth", "serverAuth"})


@dataclass(frozen=True)
class CertificateFinding:
    """One result of a check: an error forbids the certificate's use, a warning has to be confirmed, a note is shown.

    `code` is stable; `reason` and `advice` are one sentence each.
    """

    code: str
    level: Literal["error", "warning", "note"]
    reason: str
    advice: str


@dataclass(frozen=True)
class KnownCertificate:
    """A certificate of the inventory to compare with; `holder` is a name to show."""

    holder: str
    same_holder: bool
    environment: str
    sha256: str
    public_key_sha256: str
    issuer: str
    serial: int
    not_after: datetime


@dataclass(frozen=True)
class IntendedUse:
    """What a certificate is to be used for: roles out of `ROLES`, in production or test."""

    roles: Collection[str]
    environment: str


def check_certificate(
    description: Description,
    use: IntendedUse,
    *,
    now: datetime,
    known: Sequence[KnownCertificate] = (),
    predecessor: Description | KnownCertificate | None = None,
    key: KeyFacts | None = None,
) -> list[CertificateFinding]:
    """Return the findings about a certificate for this use at `now` (aware), errors first.

    `known` are similar certificates of the inventory, `predecessor` is the one to be replaced, `key` describes the
    private key that came with the certificate, where one did.
    """
    roles = use.roles
    found = [
        *_check_dates(description, now),
        *_check_chain_dates(description, now),
        *_check_key(description, roles),
        *_check_usages(description, roles),
        *_check_signature(description),
        *_check_ca_flag_and_encoding(description),
        *_compare_with_known(description, use.environment, known),
        *_compare_with_predecessor(description, predecessor, known),
        *_check_private_key(description, key),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def allow_expired(findings: Sequence[CertificateFinding]) -> list[CertificateFinding]:
    """Return the findings as they are for a certificate that is in use already: its expiry is a warning, not an error.

    For records of what is in use. A successor is checked without this.
    """
    allowed = [replace(one, level="warning") if one.code == "expired" else one for one in findings]
    return sorted(allowed, key=lambda finding: finding.level != "error")


def describe_repairs(notes: Sequence[str]) -> list[CertificateFinding]:
    """Return a finding about what was repaired or left out to read a file, from the notes of `Material`; or none."""
    if not notes:
        return []
    listed = " and ".join(part for part in (", ".join(notes[:-1]), notes[-1]) if part)
    reason = f"To read the certificate, something in the file was put right or left out: {listed}."
    return [CertificateFinding("repaired", "note", reason, "Check that name and fingerprint are the expected ones.")]


def _error(code: str, reason: str, advice: str) -> CertificateFinding:
    return CertificateFinding(code, "error", reason, advice)


def _warning(code: str, reason: str, advice: str) -> CertificateFinding:
    return CertificateFinding(code, "warning", reason, advice)


def _check_dates(d: Description, now: datetime) -> Iterator[CertificateFinding]:
    if d.not_after < d.not_before:
        yield _error(
            "never-valid",
            f"It ends on {d.not_after:%Y-%m-%d}, before it begins on {d.not_before:%Y-%m-%d}.",
            "Make a new certificate, or ask for one.",
        )
        return
    if now > d.not_after:
        yield _error(
            "expired",
            f"It expired on {d.not_after:%Y-%m-%d %H:%M} UTC.",
            "Ask for its successor, or make one.",
        )
    if now < d.not_before:
        yield _warning(
            "not-yet-valid",
            f"It is not valid before {d.not_before:%Y-%m-%d %H:%M} UTC.",
            "Use it from then on, and let no window begin earlier.",
        )
    if d.not_after > _years_after(d.not_before, MAX_YEARS):
        yield _warning(
            "long-lifetime",
            f"It is valid for more than {MAX_YEARS} years, until {d.not_after:%Y-%m-%d}.",
            "Prefer a shorter life: a key that leaks stays useful to others for as long as its certificate is valid.",
        )


def _check_chain_dates(d: Description, now: datetime) -> Iterator[CertificateFinding]:
    for name, end in zip(d.chain, d.chain_ends, strict=False):
        if end < min(now, d.not_after):
            yield _warning(
                "issuer-expired",
                f"The certificate of its CA in the file (“{shorten(name)}”) expired on {end:%Y-%m-%d}.",
                "Systems that check chains refuse it: ask for the CA’s current one, and import both together.",
            )
            return


def _years_after(moment: datetime, years: int) -> datetime:
    """Return the same day `years` later: 1 March for 29 February, and at most the end of the year 9999."""
    if moment.year + years > 9999:
        return datetime.max.replace(tzinfo=moment.tzinfo)
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, month=3, day=1)


def _check_key(d: Description, roles: Collection[str]) -> Iterator[CertificateFinding]:
    if d.key_type in ("RSA", "RSA-PSS"):
        if d.key_size is not None and d.key_size < MIN_RSA_BITS:
            yield _error(
                "rsa-too-small",
                f"Its RSA key has {d.key_size} bits, and fewer than {MIN_RSA_BITS} are not safe.",
                "Make or ask for a certificate with an RSA key of 2048 or 3072 bits.",
            )
        if d.key_size is not None and d.key_size > MAX_RSA_BITS:
            yield _warning(
                "rsa-too-large",
                f"Its RSA key has {d.key_size} bits, and AWS and others refuse more than {MAX_RSA_BITS}.",
                "Ask whether every system in use takes it, or use 3072 or 4096 bits.",
            )
    if d.key_type == "RSA":
        return
    encrypting = sorted(_ENCRYPTING_ROLES.intersection(roles))
    signing = sorted(_SIGNING_ROLES.intersection(roles))
    if encrypting:
        yield _error(
            "key-type",
            f"Its key is {d.key}, and for the role {' and '.join(encrypting)} AS2 systems need RSA.",
            "Use a certificate with an RSA key for this role.",
        )
    if signing and (d.key_type.startswith("EC ") or d.key_type in ("DSA", "RSA-PSS")):
        yield _warning(
            "key-type",
            f"Its key is {d.key}, and many AS2 systems check RSA signatures only.",
            "Ask every partner whether its system takes it, or use RSA.",
        )
    elif signing:
        yield _error(
            "key-type",
            f"Its key is {d.key}, and for the role {' and '.join(signing)} AS2 systems need RSA.",
            "Use a certificate with an RSA key for this role.",
        )


def _check_usages(d: Description, roles: Collection[str]) -> Iterator[CertificateFinding]:
    """Compare the key usages with the roles (RFC 8551, 4.4.2); without the extension everything is allowed."""
    allowed = set(d.key_usages)
    signing = sorted(_SIGNING_ROLES.intersection(roles))
    encrypting = sorted(_ENCRYPTING_ROLES.intersection(roles))
    shown = ", ".join(d.key_usages)
    if allowed and signing and not allowed & {"digitalSignature", "nonRepudiation"}:
        yield _error(
            "key-usage",
            f"Its key usage allows only {shown}, and the role {' and '.join(signing)} needs digitalSignature.",
            "Use a certificate with digitalSignature, or leave this role to another one.",
        )
    if allowed and encrypting and d.key_type == "RSA" and "keyEncipherment" not in allowed:
        yield _error(
            "key-usage",
            f"Its key usage allows only {shown}, and the role {' and '.join(encrypting)} needs keyEncipherment.",
            "Use a certificate with keyEncipherment, or leave this role to another one.",
        )
    if d.extended_key_usages and not _MAIL_USAGES.intersection(d.extended_key_usages):
        yield _warning(
            "extended-key-usage",
            f"It was issued for {', '.join(d.extended_key_usages)}, which is none of the uses that AS2 has.",
            "Ask whether this is the right certificate: strict systems want emailProtection, or no such limit.",
        )


def _check_signature(d: Description) -> Iterator[CertificateFinding]:
    if d.signature_hash in _WEAK_HASHES:
        yield _error(
            "weak-signature",
            f"It is signed with {_WEAK_HASHES[d.signature_hash]}, which can be forged.",
            "Make or ask for a certificate that is signed with SHA-256.",
        )
    if d.signature_hash == "sha1":
        yield _warning(
            "weak-signature",
            "It is signed with SHA-1, which many systems refuse by now.",
            "Make or ask for a certificate that is signed with SHA-256.",
        )


def _check_ca_flag_and_encoding(d: Description) -> Iterator[CertificateFinding]:
    if d.is_ca and d.self_signed:
        yield _warning(
            "ca-certificate",
            "It calls itself the certificate of a CA, as openssl makes self-signed ones unless told otherwise.",
            "Most AS2 systems take it; for its successor choose one that is no CA (CA:FALSE).",
        )
    elif d.is_ca:
        yield _error(
            "ca-certificate",
            f"It is the certificate of a CA (“{shorten(d.common_name or d.subject)}”), not one of an AS2 station.",
            "Ask for the certificate that this CA issued to the station.",
        )
    for problem in d.problems:
        if problem != "it ends before it begins":
            yield _warning(
                "odd-form",
                f"The certificate is odd: {problem}.",
                "Some systems will refuse it: ask its issuer for a clean one.",
            )


def _compare_with_known(
    d: Description, environment: str, known: Sequence[KnownCertificate]
) -> Iterator[CertificateFinding]:
    for other in known:
        if other.sha256 == d.sha256:
            what, code = "This same certificate", "same-certificate"
        elif other.public_key_sha256 == d.public_key_sha256:
            what, code = "The same key, in another certificate,", "same-key"
        else:
            what, code = "", ""
        if other.same_holder and other.sha256 != d.sha256 and (other.issuer, other.serial) == (d.issuer, d.serial):
            yield _same_issuer_and_serial(f"another certificate of {other.holder} ({short_fingerprint(other.sha256)})")
        if what and not other.same_holder:
            yield _warning(
                f"{code}-elsewhere",
                f"{what} is used by {other.holder}.",
                "Check that it did not get here by mistake: whoever holds the key can sign and decrypt for both.",
            )
        if what and other.environment != environment:
            yield _warning(
                f"{code}-both-environments",
                f"{what} is used in {other.environment} too, by {other.holder}.",
                f"Use a key of its own in {environment}, so that a test can't pass for the real thing.",
            )


def _same_issuer_and_serial(other: str) -> CertificateFinding:
    return _error(
        "same-issuer-serial",
        f"It has the same issuer and serial number as {other}, and messages name a certificate by just these two.",
        "Have it issued again with a serial number of its own.",
    )


def _compare_with_predecessor(
    d: Description, predecessor: Description | KnownCertificate | None, known: Sequence[KnownCertificate]
) -> Iterator[CertificateFinding]:
    if predecessor is None:
        return
    if predecessor.sha256 == d.sha256:
        yield _error(
            "same-as-predecessor",
            "It is the very certificate that it is to replace.",
            "Choose, make or ask for its successor.",
        )
        return
    compared = any(other.sha256 == predecessor.sha256 for other in known)
    if not compared and (predecessor.issuer, predecessor.serial) == (d.issuer, d.serial):
        yield _same_issuer_and_serial("the certificate that it replaces")
    if predecessor.public_key_sha256 == d.public_key_sha256:
        yield _warning(
            "same-key-as-predecessor",
            "It has the same key as the certificate that it replaces.",
            "Check that the key is to be kept: whoever may have got hold of it can use this certificate, too.",
        )
    if d.not_after.date() < predecessor.not_after.date():
        yield _warning(
            "ends-before-predecessor",
            f"It ends on {d.not_after:%Y-%m-%d}, and the one it replaces on {predecessor.not_after:%Y-%m-%d}.",
            "Check that it is not an older one, sent by mistake.",
        )


def _check_private_key(d: Description, key: KeyFacts | None) -> Iterator[CertificateFinding]:
    if key is None or key.sha256 == d.public_key_sha256:
        return
    certified = KeyFacts(d.key_type, d.key_size, d.public_key_sha256)
    yield _error(
        "key-mismatch",
        f"The private key does not belong to this certificate: {describe_mismatch(key, certified)}.",
        "Upload the key that was made together with this certificate.",
    )
