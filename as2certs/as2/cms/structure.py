"""What the structures of CMS have in common: their envelope, algorithms, and how they name a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509

from as2certs.as2.errors import MalformedMessage
from as2certs.pki.asn1 import (
    INTEGER,
    NULL,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Asn1Error,
    Element,
    encode,
    read_element,
)
from as2certs.pki.describing import key_identifiers, serial_hex, shorten
from as2certs.pki.errors import PARSER_ERRORS, convert_parser_errors
from as2certs.pki.names import name_in_openssl

MAX_CMS_BYTES = 4 * 1024 * 1024
"""Maximum size of a structure that is read, and of what is decrypted or decompressed from it."""
MAX_SIGNERS = 10
MAX_RECIPIENTS = 50
MAX_CERTIFICATES = 50
MAX_NAME_CHARACTERS = 300
"""Maximum length of a name in sentences, facts and logs: it is chosen by whoever made the certificate."""

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
AUTH_ENVELOPED_DATA = "1.2.840.113549.1.9.16.1.23"
COMPRESSED_DATA = "1.2.840.113549.1.9.16.1.9"

CONTEXT_0, CONTEXT_1 = 0xA0, 0xA1
"""Identifiers of constructed elements with a context tag."""
PRIMITIVE_0, PRIMITIVE_1 = 0x80, 0x81


@dataclass(frozen=True)
class CertificateId:
    """How CMS names a certificate (RFC 5652, 5.3 and 6.2.1): by issuer and serial number, or by subject key identifier.

    `issuer` is the DER of the name, `key_id` the identifier; what is not used is empty.
    """

    issuer: bytes = b""
    serial: int | None = None
    key_id: bytes = b""

    @classmethod
    def of(cls, certificate: x509.Certificate) -> CertificateId:
        """Return the issuer and serial number of a certificate."""
        return cls(certificate.issuer.public_bytes(), certificate.serial_number)

    @cached_property
    def issuer_text(self) -> str:
        """Return the issuer as openssl shows it, in hex digits if it has values that no name can have."""
        if not self.issuer:
            return ""
        try:
            return _name_text(read_element(self.issuer))
        except PARSER_ERRORS:
            return f"#{self.issuer[:100].hex()}"

    def names(self, certificate: x509.Certificate) -> bool:
        """Return whether this is that certificate.

        Issuers are compared as bytes and as text, since some programs write a name with other types of strings.
        """
        if self.key_id:
            return self.key_id == subject_key_id(certificate)
        if self.serial != certificate.serial_number:
            return False
        issuer = certificate.issuer
        return self.issuer == issuer.public_bytes() or self.issuer_text == name_in_openssl(issuer)

    def __str__(self) -> str:
        if self.key_id:
            return f"subject key identifier {self.key_id.hex(':').upper()}"
        issuer = shorten(self.issuer_text, MAX_NAME_CHARACTERS)
        return f"issuer {issuer}, serial number {serial_hex(self.serial or 0)}"


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """Return the subject key identifier, or the SHA-1 of the key that stands in for it (RFC 5280, 4.2.1.2).

    Empty for a certificate whose extensions and key can't be read.
    """
    stated, _ = key_identifiers(certificate)
    if stated is not None:
        return stated
    with suppress(*PARSER_ERRORS):
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return b""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Convert the errors of parsers in the block to one MalformedMessage about `what`, such as "the signature"."""
    with convert_parser_errors(f"{what[:1].upper()}{what[1:]} is damaged or not valid CMS.", MalformedMessage):
        yield


def content_type(data: bytes) -> str:
    """Return the object identifier of the type of a ContentInfo in BER or DER. Raises MalformedMessage."""
    with reading("the message"):
        return read_element(data).children()[0].dotted()


def trailer(data: bytes) -> bytes:
    """Return what follows a ContentInfo in BER or DER. Raises MalformedMessage."""
    with reading("the message"):
        return data[len(read_element(data).raw) :]


def read_content(data: bytes, *types: str) -> tuple[str, Element]:
    """Return the type and the content of a ContentInfo (RFC 5652, 3) of one of these types.

    Raises MalformedMessage for another one, and Asn1Error for bytes that are none.
    """
    if len(data) > MAX_CMS_BYTES:
        raise MalformedMessage(
            f"The message has more than {MAX_CMS_BYTES // 1024**2} MiB, and a test message takes a few kilobytes."
        )
    outer = read_element(data)
    if outer.identifier != SEQUENCE:
        raise Asn1Error("no ContentInfo")
    kind, explicit = outer.children()[:2]
    found = kind.dotted()
    if found not in types:
        raise MalformedMessage(f"The CMS structure is of the type {found}, where {' or '.join(types)} was expected.")
    (content,) = explicit.children()
    return found, content


def write_content(kind: str, content: bytes) -> bytes:
    """Return a ContentInfo in DER."""
    return encode(SEQUENCE, encode_oid(kind), encode(CONTEXT_0, content))


def read_algorithm(element: Element) -> tuple[str, Element | None]:
    """Return the object identifier and the parameters of an AlgorithmIdentifier; None for absent or NULL ones."""
    parts = element.children()
    if not 1 <= len(parts) <= 2:
        raise Asn1Error("no algorithm")
    parameters = parts[1] if len(parts) == 2 and parts[1].identifier != NULL else None
    return parts[0].dotted(), parameters


def read_certificate_id(element: Element) -> CertificateId:
    """Return the certificate that a SignerIdentifier or a RecipientIdentifier names. Raises Asn1Error."""
    if element.identifier in (PRIMITIVE_0, CONTEXT_0):
        key_id = element.octets()
        if not 1 <= len(key_id) <= 64:
            raise Asn1Error("no subject key identifier")
        return CertificateId(key_id=key_id)
    if element.identifier != SEQUENCE:
        raise Asn1Error("no issuer and serial number")
    issuer, serial = element.children()
    if len(issuer.raw) > 10_000 or len(serial.content) > 64:
        raise Asn1Error("a name or a serial number that no certificate has")
    return CertificateId(issuer.raw, serial.integer())


def write_certificate_id(certificate: x509.Certificate) -> bytes:
    """Return the IssuerAndSerialNumber of a certificate in DER."""
    return encode(SEQUENCE, certificate.issuer.public_bytes(), encode_integer(certificate.serial_number))


def encode_oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER in DER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(0x80 | arc & 0x7F)
        content += bytes(reversed(octets))
    return encode(OID, bytes(content))


def encode_integer(value: int) -> bytes:
    """Return an INTEGER in DER."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def encode_algorithm(dotted: str, parameters: bytes | None = None) -> bytes:
    """Return an AlgorithmIdentifier in DER; its parameters are NULL unless they are given."""
    return encode(SEQUENCE, encode_oid(dotted), encode(NULL) if parameters is None else parameters)


def encode_octets(value: bytes) -> bytes:
    """Return an OCTET STRING in DER."""
    return encode(OCTET_STRING, value)


def _name_text(name: Element) -> str:
    rdns = []
    for group in name.children():
        attributes = []
        for attribute in group.children():
            kind, value = attribute.children()
            attributes.append(x509.NameAttribute(x509.ObjectIdentifier(kind.dotted()), _text(value)))
        rdns.append(x509.RelativeDistinguishedName(attributes))
    return name_in_openssl(x509.Name(rdns))


def _text(value: Element) -> str:
    encoding = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x0C: "utf-8"}.get(value.identifier, "latin-1")
    return value.content.decode(encoding)
