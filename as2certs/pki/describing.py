"""Describe a certificate in the terms of X.509."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from as2certs.pki.errors import PARSER_ERRORS, UnreadableFile, convert_parser_errors, is_rust_panic
from as2certs.pki.fingerprints import format_fingerprint
from as2certs.pki.irregular import IrregularCertificate, explain_unreadable_certificate, load_certificate
from as2certs.pki.keys import public_key_facts
from as2certs.pki.names import escape_unprintable, name_in_openssl, name_in_windows

MAX_CERTIFICATE_BYTES = 64 * 1024
"""A certificate larger than this is no AS2 certificate: real ones take one to four kilobytes."""
MAX_SANS = 100
"""Maximum number of alternative names in a description."""

DAMAGED_MESSAGE = "The certificate is damaged or not built as RFC 5280 says: ask its owner to export and send it again."

_SIGNATURE_ALGORITHMS = {
    "1.2.840.113549.1.1.2": ("md2WithRSA", "md2"),
    "1.2.840.113549.1.1.3": ("md4WithRSA", "md4"),
    "1.2.840.113549.1.1.4": ("md5WithRSA", "md5"),
    "1.2.840.113549.1.1.5": ("sha1WithRSA", "sha1"),
    "1.3.14.3.2.29": ("sha1WithRSA", "sha1"),
    "1.2.840.113549.1.1.14": ("sha224WithRSA", "sha224"),
    "1.2.840.113549.1.1.11": ("sha256WithRSA", "sha256"),
    "1.2.840.113549.1.1.12": ("sha384WithRSA", "sha384"),
    "1.2.840.113549.1.1.13": ("sha512WithRSA", "sha512"),
    "1.2.840.113549.1.1.10": ("RSASSA-PSS", ""),
    "1.2.840.10045.4.1": ("ecdsa-with-SHA1", "sha1"),
    "1.2.840.10045.4.3.1": ("ecdsa-with-SHA224", "sha224"),
    "1.2.840.10045.4.3.2": ("ecdsa-with-SHA256", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa-with-SHA384", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa-with-SHA512", "sha512"),
    "1.2.840.10040.4.3": ("dsa-with-sha1", "sha1"),
    "2.16.840.1.101.3.4.3.1": ("dsa-with-sha224", "sha224"),
    "2.16.840.1.101.3.4.3.2": ("dsa-with-sha256", "sha256"),
    "2.16.840.1.101.3.4.3.3": ("dsa-with-sha384", "sha384"),
    "2.16.840.1.101.3.4.3.4": ("dsa-with-sha512", "sha512"),
    "1.3.101.112": ("Ed25519", ""),
    "1.3.101.113": ("Ed448", ""),
}

_KEY_USAGES = (
    ("digital_signature", "digitalSignature"),
    ("content_commitment", "nonRepudiation"),
    ("key_encipherment", "keyEncipherment"),
    ("data_encipherment", "dataEncipherment"),
    ("key_agreement", "keyAgreement"),
    ("key_cert_sign", "keyCertSign"),
    ("crl_sign", "cRLSign"),
)

_EXTENDED_KEY_USAGES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.CODE_SIGNING: "codeSigning",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "emailProtection",
    ExtendedKeyUsageOID.TIME_STAMPING: "timeStamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
}

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")

T = TypeVar("T")
ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


@dataclass(frozen=True)
class Description:
    """The fields of a certificate.

    Names are written as openssl shows them, and again as Windows does. Fingerprints are lowercase hex without colons,
    dates aware and in UTC. Without a key usage extension `key_usages` is empty, and everything is allowed. `chain` has
    the subjects of the issuers, nearest first. `chain_ends` has the moments at which those issuers expire that issued
    one another, nearest first. `problems` are phrases about irregular or unreadable parts.
    """

    subject: str
    issuer: str
    subject_windows: str
    issuer_windows: str
    common_name: str
    serial: int
    serial_hex: str
    serial_decimal: str
    sha256: str
    sha1: str
    not_before: datetime
    not_after: datetime
    key_type: str
    key_size: int | None
    public_key_sha256: str
    signature_algorithm: str
    signature_hash: str
    key_usages: tuple[str, ...]
    extended_key_usages: tuple[str, ...]
    sans: tuple[str, ...]
    self_signed: bool
    is_ca: bool
    chain: tuple[str, ...] = ()
    chain_ends: tuple[datetime, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return type and size of the key, such as "RSA 3072"."""
        if self.key_size is None or self.key_type.startswith("EC "):
            return self.key_type
        return f"{self.key_type} {self.key_size}"


def load_der(der: bytes) -> x509.Certificate:
    """Return the certificate in DER bytes whose names, dates and key can be read; raise UnreadableFile otherwise."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise UnreadableFile(
            f"The certificate alone takes {len(der) // 1024} KiB, where real ones take a few: ask for the right file."
        )
    try:
        with convert_parser_errors(DAMAGED_MESSAGE):
            certificate = load_certificate(bytes(der))
            subject_and_issuer(certificate)
            lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
            del lifetime
            public_key_facts(certificate)
    except UnreadableFile as error:
        with convert_parser_errors(str(error)):
            reason = explain_unreadable_certificate(bytes(der))
        raise UnreadableFile(reason or str(error)) from None
    return certificate


def load_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates of PEM text that this application wrote; raise UnreadableFile for other text."""
    blocks = _PEM_CERTIFICATE.findall(pem)
    with convert_parser_errors(DAMAGED_MESSAGE):
        return tuple(load_der(base64.b64decode(block)) for block in blocks)


def describe(cert: x509.Certificate, chain: Sequence[x509.Certificate] = ()) -> Description:
    """Return the description of a certificate, with the names of its issuers in `chain`.

    Irregularities go to `problems`. Raises UnreadableFile for invalid names or dates, as `load_der` does.
    """
    problems: list[str] = []
    with convert_parser_errors(DAMAGED_MESSAGE):
        subject, issuer = subject_and_issuer(cert)
        not_before, not_after = cert.not_valid_before_utc, cert.not_valid_after_utc
        issuers = tuple(subject_and_issuer(one)[0] for one in chain)
        key = public_key_facts(cert)
    if cert.serial_number <= 0:
        problems.append(f"its serial number is {cert.serial_number}, and RFC 5280 wants a positive one")
    elif (octets := cert.serial_number.bit_length() // 8 + 1) > 20:
        problems.append(f"its serial number has {octets} octets, and RFC 5280 allows 20")
    if not_after < not_before:
        problems.append("it ends before it begins")
    problems += _odd_names(cert)
    if isinstance(cert, IrregularCertificate) and cert.stated_version > 3:
        problems.append(
            f"it says that it is of version {cert.stated_version}, which does not exist, and Java refuses it"
        )
    extensions = _parsed_or_none(lambda: cert.extensions)
    if extensions and cert.version is x509.Version.v1:
        problems.append("it says that it is of version 1, and has extensions, which only version 3 has")
    if extensions is None:
        problems.append("its extensions can't be read")
    usages = _key_usages(extensions, problems)
    algorithm, hash_name = signature_algorithm_of(cert)
    constraints = _extension(extensions, x509.BasicConstraints)
    return Description(
        subject=subject,
        issuer=issuer,
        subject_windows=name_in_windows(cert.subject),
        issuer_windows=name_in_windows(cert.issuer),
        common_name=common_name(cert),
        serial=cert.serial_number,
        serial_hex=serial_hex(cert.serial_number),
        serial_decimal=str(cert.serial_number),
        sha256=cert.fingerprint(hashes.SHA256()).hex(),
        sha1=cert.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 - a name to compare by, as other systems show it
        not_before=not_before,
        not_after=not_after,
        key_type=key.type,
        key_size=key.size,
        public_key_sha256=key.sha256,
        signature_algorithm=algorithm,
        signature_hash=hash_name,
        key_usages=usages,
        extended_key_usages=_extended_key_usages(extensions),
        sans=_alternative_names(extensions),
        self_signed=_is_self_signed(cert, problems),
        is_ca=constraints is not None and constraints.ca,
        chain=issuers,
        chain_ends=_chain_ends(cert, chain),
        problems=tuple(problems),
    )


def subject_and_issuer(cert: x509.Certificate) -> tuple[str, str]:
    """Return both names as openssl shows them. Raises PARSER_ERRORS."""
    return name_in_openssl(cert.subject), name_in_openssl(cert.issuer)


def _odd_names(cert: x509.Certificate) -> list[str]:
    """Return phrases about a subject that some systems refuse (RFC 5280, appendix A)."""
    found = []
    if not cert.subject.rdns:
        found.append("its subject is empty, so nothing in it says whose it is")
    countries = [str(one.value) for one in cert.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)]
    if odd := [country for country in countries if len(country) != 2]:
        shown = shorten(escape_unprintable(odd[0]), 20)
        found.append(f"its country “{shown}” has {len(odd[0])} letters, and RFC 5280 wants two, such as DE")
    if isinstance(cert, IrregularCertificate) and cert.string_types:
        types = " and ".join(cert.string_types)
        found.append(f"a name in it is in an old encoding, or a wrong one ({types}), which was read as Latin-1")
    return found


def _chain_ends(cert: x509.Certificate, chain: Sequence[x509.Certificate]) -> tuple[datetime, ...]:
    """Return when the issuers of a certificate expire that are in its chain."""
    ends, current = [], cert
    for issuer in chain:
        if issuer.subject != current.issuer or current.subject == current.issuer:
            break
        ends.append(issuer.not_valid_after_utc)
        current = issuer
    return tuple(ends)


def common_name(cert: x509.Certificate) -> str:
    """Return the subject's last common name, or an empty string."""
    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    value = names[-1].value if names else ""
    return escape_unprintable(value if isinstance(value, str) else value.hex())


def is_ca(cert: x509.Certificate) -> bool:
    """Return whether a certificate is marked as a CA (RFC 5280, 4.2.1.9)."""
    constraints = _extension(_parsed_or_none(lambda: cert.extensions), x509.BasicConstraints)
    return constraints is not None and constraints.ca


def key_identifiers(cert: x509.Certificate) -> tuple[bytes | None, bytes | None]:
    """Return the subject and authority key identifiers, None for missing ones."""
    extensions = _parsed_or_none(lambda: cert.extensions)
    own = _extension(extensions, x509.SubjectKeyIdentifier)
    issuers = _extension(extensions, x509.AuthorityKeyIdentifier)
    return own.digest if own else None, issuers.key_identifier if issuers else None


def serial_hex(serial: int) -> str:
    """Format a serial number as pairs of hex digits with colons, as openssl does."""
    digits = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + format_fingerprint(digits.zfill(len(digits) + len(digits) % 2))


def signature_algorithm_of(cert: x509.Certificate) -> tuple[str, str]:
    """Return the names of the signature algorithm and its hash ("" for none or an unknown one)."""
    oid = cert.signature_algorithm_oid.dotted_string
    name, hash_name = _SIGNATURE_ALGORITHMS.get(oid, (f"unknown ({oid})", ""))
    if not hash_name:
        algorithm = _parsed_or_none(lambda: cert.signature_hash_algorithm)
        hash_name = algorithm.name if algorithm else ""
    return name, hash_name


def shorten(name: str, max_length: int = 60) -> str:
    """Shorten a name to fit into a sentence."""
    return name if len(name) <= max_length else f"{name[: max_length - 1]}…"


def _parsed_or_none(read: Callable[[], T]) -> T | None:
    """Return the result of `read`, None if the parser fails."""
    try:
        return read()
    except PARSER_ERRORS:
        return None
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        return None


def _extension(extensions: x509.Extensions | None, kind: type[ExtensionT]) -> ExtensionT | None:
    if extensions is None:
        return None
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _key_usages(extensions: x509.Extensions | None, problems: list[str]) -> tuple[str, ...]:
    usage = _extension(extensions, x509.KeyUsage)
    if usage is None:
        return ()
    names = [name for attribute, name in _KEY_USAGES if getattr(usage, attribute)]
    if usage.key_agreement:
        names += ["encipherOnly"] if usage.encipher_only else []
        names += ["decipherOnly"] if usage.decipher_only else []
    if not names:
        problems.append("its key usage extension allows nothing")
    return tuple(names)


def _extended_key_usages(extensions: x509.Extensions | None) -> tuple[str, ...]:
    usage = _extension(extensions, x509.ExtendedKeyUsage)
    return tuple(_EXTENDED_KEY_USAGES.get(oid, oid.dotted_string) for oid in usage) if usage else ()


def _alternative_names(extensions: x509.Extensions | None) -> tuple[str, ...]:
    names = _extension(extensions, x509.SubjectAlternativeName)
    if names is None:
        return ()
    shown = [escape_unprintable(_alternative_name(name)) for name, _ in zip(names, range(MAX_SANS), strict=False)]
    more = len(list(names)) - len(shown)
    return (*shown, f"and {more} more") if more else tuple(shown)


def _alternative_name(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.DirectoryName():
            return f"dirName:{name_in_openssl(name.value)}"
        case x509.RegisteredID():
            return f"RID:{name.value.dotted_string}"
        case x509.OtherName():
            return f"otherName:{name.type_id.dotted_string}"
    return "a name of an unknown kind"


def _is_self_signed(cert: x509.Certificate, problems: list[str]) -> bool:
    """Return whether a certificate is signed with its own key; if that can't be verified, by its names."""
    if cert.subject != cert.issuer:
        return False
    own, issuers = key_identifiers(cert)
    try:
        cert.verify_directly_issued_by(cert)
    except InvalidSignature:
        if issuers is None or issuers == own:
            problems.append("its own signature does not verify, so it was altered or damaged")
        return False
    except PARSER_ERRORS:
        return issuers is None or issuers == own
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        return issuers is None or issuers == own
    return True
