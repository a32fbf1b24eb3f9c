"""Generate keys, self-signed certificates and certificate signing requests."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from as2certs.pki.checking import ROLES
from as2certs.pki.describing import shorten
from as2certs.pki.errors import PkiError
from as2certs.pki.keys import PrivateKey
from as2certs.pki.names import escape_unprintable

CertificateHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

KEY_SIZES = (2048, 3072, 4096)
HASHES: dict[str, CertificateHash] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
MAX_DAYS = 20 * 365
CLOCK_SKEW = timedelta(minutes=5)
"""Certificates begin this much earlier, so that partners whose clocks are slow accept them at once."""

#: Field of `CertificateSubject`, OID, maximum length (RFC 5280, appendix A.1), and the name in messages.
_SUBJECT_FIELDS = (
    ("country", NameOID.COUNTRY_NAME, 2, "country"),
    ("state", NameOID.STATE_OR_PROVINCE_NAME, 128, "state"),
    ("locality", NameOID.LOCALITY_NAME, 128, "locality"),
    ("organization", NameOID.ORGANIZATION_NAME, 64, "organization"),
    ("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64, "organizational unit"),
    ("common_name", NameOID.COMMON_NAME, 64, "common name"),
    ("email", NameOID.EMAIL_ADDRESS, 255, "e-mail address"),
)

_KEY_USAGE_BY_ROLE = {
    "sign": "digital_signature",
    "verify": "digital_signature",
    "decrypt": "key_encipherment",
    "encrypt": "key_encipherment",
}
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)

BuilderT = TypeVar("BuilderT", x509.CertificateBuilder, x509.CertificateSigningRequestBuilder)


@dataclass(frozen=True)
class CertificateSubject:
    """The subject of a certificate; only the common name is required, the country is a two-letter code."""

    common_name: str
    organization: str = ""
    organizational_unit: str = ""
    locality: str = ""
    state: str = ""
    country: str = ""
    email: str = ""


def generate_key(bits: int) -> PrivateKey:
    """Return a new RSA key of 2048, 3072 or 4096 bits; a large one takes seconds."""
    if bits not in KEY_SIZES:
        raise PkiError(f"An RSA key of {bits} bits can't be made here: choose 2048, 3072 or 4096.")
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def make_self_signed(
    key: PrivateKey,
    *,
    subject: CertificateSubject,
    days: int,
    roles: Collection[str],
    now: datetime,
    hash_name: str = "sha256",
) -> x509.Certificate:
    """Return a self-signed end-entity certificate that ends `days` days after `now` (aware).

    Raises PkiError for a subject, a time or a hash that can't go into a certificate.
    """
    if not 1 <= days <= MAX_DAYS:
        raise PkiError(f"A certificate can't be valid for {days} days: choose 1 to {MAX_DAYS}, usually 730.")
    name = _x509_name(subject)
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_require_rsa(key).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(_require_rsa(key).public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_require_rsa(key).public_key()), critical=False
        )
    )
    builder = _add_usages_and_names(builder, roles, subject)
    return builder.sign(_require_rsa(key), _hash_algorithm(hash_name))


def make_signing_request(
    key: PrivateKey, *, subject: CertificateSubject, roles: Collection[str], hash_name: str = "sha256"
) -> bytes:
    """Return a certificate signing request (PKCS#10) as PEM. Raises PkiError as `make_self_signed` does."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_x509_name(subject))
    builder = _add_usages_and_names(builder, roles, subject)
    return builder.sign(_require_rsa(key), _hash_algorithm(hash_name)).public_bytes(Encoding.PEM)


def _require_rsa(key: PrivateKey) -> rsa.RSAPrivateKey:
    if not isinstance(key, rsa.RSAPrivateKey):
        raise PkiError("Certificates are made with RSA keys here, since many AS2 systems know no others: generate one.")
    return key


def _hash_algorithm(name: str) -> CertificateHash:
    try:
        return HASHES[name]
    except KeyError:
        raise PkiError(f"A certificate is not signed with {name} here: choose sha256, sha384 or sha512.") from None


def _x509_name(subject: CertificateSubject) -> x509.Name:
    attributes = []
    for field, oid, max_length, label in _SUBJECT_FIELDS:
        value = getattr(subject, field).strip()
        if not value:
            continue
        if field == "country":
            value = value.upper()
            if len(value) != 2 or not value.isascii() or not value.isalpha():
                raise PkiError(
                    f"The country “{_display_text(value)}” is no two-letter code: write US or DE, for example."
                )
        if not value.isprintable():
            raise PkiError(f"The {label} holds a character that can't be printed: type it again.")
        if len(value) > max_length:
            raise PkiError(
                f"The {label} has {len(value)} characters, and a certificate takes {max_length}: shorten it."
            )
        attributes.append(x509.NameAttribute(oid, value))
    if not subject.common_name.strip():
        raise PkiError("The certificate needs a common name: give it the AS2 ID, for example.")
    return x509.Name(attributes)


def _add_usages_and_names(builder: BuilderT, roles: Collection[str], subject: CertificateSubject) -> BuilderT:
    """Add the key usages that the roles need (RFC 8551, 4.4.2), and the e-mail address as alternative name."""
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise PkiError(f"A certificate serves {', '.join(ROLES)}, not “{', '.join(unknown)}”: choose at least one.")
    required = {_KEY_USAGE_BY_ROLE[role] for role in roles}
    usage = x509.KeyUsage(**{name: name in required for name in _KEY_USAGES})
    builder = builder.add_extension(usage, critical=True)
    names = _email_names(subject)
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder


def _email_names(subject: CertificateSubject) -> list[x509.GeneralName]:
    email = subject.email.strip()
    if not email:
        return []
    user, at, host = email.rpartition("@")
    if not (user and at and host and email.isascii()) or " " in email:
        raise PkiError(
            f"“{_display_text(email)}” is no e-mail address that a certificate can hold: write it in "
            "ASCII, as in a@b.com."
        )
    return [x509.RFC822Name(email)]


def _display_text(text: str) -> str:
    return shorten(escape_unprintable(text))
