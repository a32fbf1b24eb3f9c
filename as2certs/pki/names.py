"""Write distinguished names as openssl and Windows show them, so that people can compare them by eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509

from as2certs.pki.asn1 import BIT_STRING, encode

#: Short names of attributes in openssl (RFC 4519, RFC 5280 appendix A, RFC 2985, EV guidelines 9.2, ETSI EN 319 412-1).
_OPENSSL_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.16": "postalAddress",
    "2.5.4.17": "postalCode",
    "2.5.4.18": "postOfficeBox",
    "2.5.4.19": "physicalDeliveryOfficeName",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.21": "telexNumber",
    "2.5.4.23": "facsimileTelephoneNumber",
    "2.5.4.24": "x121Address",
    "2.5.4.25": "internationaliSDNNumber",
    "2.5.4.26": "registeredAddress",
    "2.5.4.27": "destinationIndicator",
    "2.5.4.41": "name",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.49": "distinguishedName",
    "2.5.4.51": "houseIdentifier",
    "2.5.4.54": "dmdName",
    "2.5.4.65": "pseudonym",
    "2.5.4.72": "role",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.3": "mail",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.8": "unstructuredAddress",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}
#: Names of attributes in Windows (CertNameToStr with CERT_X500_NAME_STR); it shows others as “OID.2.5.4.15”.
_WINDOWS_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "S",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.13": "Description",
    "2.5.4.17": "PostalCode",
    "2.5.4.18": "POBox",
    "2.5.4.20": "Phone",
    "2.5.4.24": "X21Address",
    "2.5.4.42": "G",
    "2.5.4.43": "I",
    "2.5.4.46": "dnQualifier",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "E",
    "1.2.840.113549.1.9.2": "Unstructured-Name",
    "1.2.840.113549.1.9.8": "Unstructured-Address",
}


def name_in_openssl(name: x509.Name) -> str:
    """Return a name in its own order, as “openssl x509 -subject” of openssl 3.2 or later shows it in UTF-8.

    Earlier versions put blanks around each “=”.
    """
    return ", ".join(_attributes(name.rdns, _openssl_attribute))


def name_in_windows(name: x509.Name) -> str:
    """Return a name as certutil and .NET show it in Windows: the last part first."""
    return ", ".join(_attributes(reversed(name.rdns), _windows_attribute))


def escape_unprintable(text: str) -> str:
    """Escape invisible or misleading characters: control characters and direction marks."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "".join(f"\\{b:02X}" for b in c.encode("utf-8", "replace")) for c in text)


def _attributes(rdns: Any, write: Callable[[x509.NameAttribute[Any]], str]) -> Iterator[str]:
    """Yield the relative names, of which each has one attribute, rarely several."""
    for rdn in rdns:
        yield " + ".join(write(attribute) for attribute in rdn)


def _openssl_attribute(attribute: x509.NameAttribute[Any]) -> str:
    oid = attribute.oid.dotted_string
    name, value = _OPENSSL_NAMES.get(oid, oid), attribute.value
    if isinstance(value, bytes):
        return f"{name}={_hex_of_bits(value)}"
    escaped = escape_unprintable(value.replace("\\", "\\\\").replace('"', '\\"'))
    if value and (value[0] in "# " or value[-1] == " " or any(c in ",+<>;" for c in value)):
        return f'{name}="{escaped}"'
    return f"{name}={escaped}"


def _windows_attribute(attribute: x509.NameAttribute[Any]) -> str:
    oid = attribute.oid.dotted_string
    name, value = _WINDOWS_NAMES.get(oid, f"OID.{oid}"), attribute.value
    if isinstance(value, bytes):
        return f"{name}={_hex_of_bits(value)}"
    escaped = escape_unprintable(value.replace('"', '""'))
    if not value or value != value.strip() or any(c in ',+="\n<>#;' for c in value):
        return f'{name}="{escaped}"'
    return f"{name}={escaped}"


def _hex_of_bits(value: bytes) -> str:
    """Return the DER of a BIT STRING in hex digits; no other kind of value is read as bytes."""
    return f"#{encode(BIT_STRING, value).hex().upper()}"
