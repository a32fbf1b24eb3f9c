"""Read certificates and keys from files, whose format is detected by content, not by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from asn1crypto.cms import ContentInfo
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from as2certs.pki.chains import find_leaf_and_chain
from as2certs.pki.containers import FilePart, ParsedFile, parse_file, parse_partner_file
from as2certs.pki.describing import Description, describe, load_der
from as2certs.pki.errors import (
    PARSER_ERRORS,
    KeyMismatch,
    UnreadableFile,
    WrongPassword,
    convert_parser_errors,
    is_rust_panic,
)
from as2certs.pki.keys import (
    PrivateKey,
    describe_mismatch,
    public_key_facts,
    public_key_sha256,
    require_key_matches,
    require_supported_key,
)
from as2certs.pki.limits import (
    MAX_KEYS,
    MAX_PARTS,
    check_encrypted_key_cost,
    check_key_size,
    check_pkcs12_cost,
    password_bytes,
)
from as2certs.pki.structure import KEY_KINDS, PRIVATE_KINDS, Kind


@dataclass(frozen=True)
class Material:
    """A certificate with its chain (nearest issuer first) and, if requested, its private key.

    `container` is the format of the file: "PEM", "DER", "PKCS#7" or "PKCS#12".
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey | None = field(repr=False)
    container: str

    @cached_property
    def description(self) -> Description:
        """Return the description of the certificate; cached, since it verifies the signature."""
        return describe(self.leaf, self.chain)


def read_public(data: bytes, *, partner: bool = False) -> Material:
    """Read a certificate and its chain from PEM, DER or PKCS#7 bytes, ignoring a private key.

    With `partner`, a private key raises PrivateKeyFound. Anything but exactly one end-entity certificate with its
    issuers raises UnreadableFile.
    """
    opened = parse_partner_file(data) if partner else parse_file(data)
    if opened.of(Kind.PKCS12):
        raise UnreadableFile(
            "This is a PKCS#12 file, made to hold a private key: choose the certificate alone, as PEM, DER or PKCS#7."
        )
    return _build_material(opened, _read_certificates(opened))


def read_with_key(
    data: bytes,
    *,
    password: str | None = None,
    key_data: bytes | None = None,
    key_password: str | None = None,
) -> Material:
    """Read a certificate and its private key from one file (PKCS#12, PEM with both) or from two, in either order.

    Raises UnreadableFile, WrongPassword, or KeyMismatch if the key does not belong to the certificate.
    """
    if key_data is None:
        return _read_single_file(data, password)
    first, second = parse_file(data), parse_file(key_data)
    if not _may_hold_certificate(first) and _may_hold_certificate(second):
        first, second, password, key_password = second, first, key_password, password
    material, keys = _read_contents(first, password)
    if second.of(*PRIVATE_KINDS):
        keys = _read_keys(second, key_password if key_password is not None else password)
    elif not keys:
        raise UnreadableFile(
            f"The key's file holds {_list_kinds(second)} and no private key: choose the key's own file."
        )
    return _attach_key(material, keys)


def read_key(data: bytes, *, password: str | None = None) -> PrivateKey:
    """Read a private key: PKCS#8, encrypted PKCS#8 or traditional, as PEM or DER, or in PKCS#12.

    Raises UnreadableFile unless the file has exactly one key, WrongPassword for a missing or wrong password.
    """
    opened = parse_file(data)
    if not opened.of(*PRIVATE_KINDS):
        raise UnreadableFile(f"The file holds {_list_kinds(opened)} and no private key: choose the key's own file.")
    keys = _read_keys(opened, password)
    if len(keys) > 1:
        raise UnreadableFile(
            f"The file holds {len(keys)} private keys: choose a file with only the one that is needed."
        )
    return keys[0]


def read_ca_response(data: bytes, *, key: PrivateKey) -> Material:
    """Read the certificate that a CA issued for our CSR; raise KeyMismatch if it is for another key."""
    opened = parse_file(data)
    if opened.of(Kind.CSR) and not opened.of(Kind.CERTIFICATE, Kind.PKCS7):
        raise UnreadableFile(
            "This is the signing request (CSR) itself: send it to the CA, and bring the certificate that comes back."
        )
    material = _build_material(opened, _read_certificates(opened))
    ours, theirs = public_key_facts(key), public_key_facts(material.leaf)
    if ours.sha256 != theirs.sha256:
        raise KeyMismatch(f"The CA's answer is not for the key that waits here: {describe_mismatch(ours, theirs)}.")
    return replace(material, key=key)


def _read_single_file(data: bytes, password: str | None) -> Material:
    opened = parse_file(data)
    material, keys = _read_contents(opened, password)
    if not keys:
        raise UnreadableFile(
            "The file holds a certificate without its private key: choose the key's file too, or PKCS#12 with both."
        )
    return _attach_key(material, keys)


def _read_contents(opened: ParsedFile, password: str | None) -> tuple[Material, list[PrivateKey]]:
    """Return the certificate with its chain, and the keys; keys are not decrypted without a certificate."""
    stores = opened.of(Kind.PKCS12)
    if stores:
        key, certificates = _read_pkcs12(stores[0].der, password)
        return _build_material(opened, certificates), [key] if key else []
    return _build_material(opened, _read_certificates(opened)), _read_keys(opened, password)


def _build_material(opened: ParsedFile, certificates: Sequence[x509.Certificate]) -> Material:
    if not certificates:
        raise UnreadableFile(_no_certificate_message(opened))
    leaf, chain = find_leaf_and_chain(certificates)
    kinds = {Kind.PKCS12: "PKCS#12", Kind.PKCS7: "PKCS#7"}
    container = next((name for kind, name in kinds.items() if opened.of(kind)), opened.encoding)
    return Material(leaf, chain, None, container)


def _attach_key(material: Material, keys: Sequence[PrivateKey]) -> Material:
    """Add the key that belongs to the leaf; raise KeyMismatch if none does."""
    wanted = public_key_sha256(material.leaf)
    key = next((one for one in keys if public_key_sha256(one) == wanted), keys[0])
    require_key_matches(key, material.leaf)
    return replace(material, key=key)


def _read_certificates(opened: ParsedFile) -> list[x509.Certificate]:
    """Return all certificates of a file in their order, including those in PKCS#7."""
    found: list[x509.Certificate] = []
    for part in opened.of(Kind.CERTIFICATE, Kind.PKCS7):
        found += [load_der(part.der)] if part.kind is Kind.CERTIFICATE else _read_pkcs7(part.der)
        if len(found) > MAX_PARTS:
            break
    return found


def _read_pkcs7(der: bytes) -> list[x509.Certificate]:
    """Return the certificates in a PKCS#7 structure (RFC 5652, 5.1), DER or BER."""
    with convert_parser_errors("The PKCS#7 file is damaged: ask for it again."):
        content = ContentInfo.load(der)["content"]
        choices = [choice for choice in content["certificates"] if choice.name == "certificate"]
        certificates = [choice.chosen.dump() for choice in choices[: MAX_PARTS + 1]]
    if not certificates:
        raise UnreadableFile("The PKCS#7 file holds no certificate: export it again, with the certificate.")
    return [load_der(certificate) for certificate in certificates]


def _read_pkcs12(der: bytes, password: str | None) -> tuple[PrivateKey | None, list[x509.Certificate]]:
    """Return key and certificates of a PKCS#12 file (RFC 7292); without a password, try an empty one and none."""
    check_pkcs12_cost(der)
    secret = password_bytes(password)
    tries = [secret] if secret else [b"", None]
    for candidate in tries:
        store = _open_pkcs12(der, candidate)
        if store is not None:
            break
    else:
        raise WrongPassword(
            "The password does not open this PKCS#12 file: type the one with which it was exported."
            if secret
            else "This PKCS#12 file needs a password: type the one with which it was exported."
        )
    with convert_parser_errors("A certificate in the PKCS#12 file is damaged: export it again."):
        held = [store.cert, *store.additional_certs]
        certificates = [load_der(one.certificate.public_bytes(Encoding.DER)) for one in held if one is not None]
    return (require_supported_key(store.key) if store.key is not None else None), certificates


def _open_pkcs12(der: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates | None:
    """Return the decrypted store, None for a wrong password; raise UnreadableFile for a damaged file."""
    try:
        return pkcs12.load_pkcs12(der, password)
    except ValueError as error:
        if "assword" in str(error):
            return None
        raise UnreadableFile("The PKCS#12 file is damaged or of an unknown make: export it again.") from None
    except PARSER_ERRORS:
        raise UnreadableFile("The PKCS#12 file uses a protection that is not known here: export it with AES.") from None
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        raise UnreadableFile("The PKCS#12 file is damaged: export it again.") from None


def _read_keys(opened: ParsedFile, password: str | None) -> list[PrivateKey]:
    parts = opened.of(*KEY_KINDS, Kind.PKCS12)
    if len(parts) > MAX_KEYS:
        raise UnreadableFile(
            f"The file holds {len(parts)} private keys: choose a file with only the one that is needed."
        )
    return [
        _key_from_pkcs12(part, password) if part.kind is Kind.PKCS12 else _load_key(part, password) for part in parts
    ]


def _key_from_pkcs12(part: FilePart, password: str | None) -> PrivateKey:
    key, _ = _read_pkcs12(part.der, password)
    if key is None:
        raise UnreadableFile("The PKCS#12 file holds no private key: export it again, with its key.")
    return key


def _load_key(part: FilePart, password: str | None) -> PrivateKey:
    if part.kind is Kind.OPENSSH_KEY:
        raise UnreadableFile(
            "This is an OpenSSH private key: turn it into PEM with “ssh-keygen -p -m PEM”, or choose another."
        )
    if part.kind is Kind.PRIVATE_KEY:
        check_key_size(part.der)
        with convert_parser_errors("The private key is damaged or not a valid key: export it again."):
            return require_supported_key(load_der_private_key(part.der, None))
    if part.der:
        check_encrypted_key_cost(part.der)
    check_key_size(part.der or part.pem[: len(part.pem) * 3 // 4])
    secret = password_bytes(password)
    if not secret:
        raise WrongPassword("The private key is encrypted and needs a password: type the one it was exported with.")
    with convert_parser_errors(
        "The password does not open the private key, or the key is damaged: type it again, or export it again.",
        WrongPassword,
    ):
        return require_supported_key(_decrypt_key(part, secret))


def _decrypt_key(part: FilePart, password: bytes) -> object:
    try:
        if part.pem:
            return load_pem_private_key(part.pem, password)
        return load_der_private_key(part.der, password)
    except UnsupportedAlgorithm:
        raise UnreadableFile(
            "The private key is protected in a way that is not known here: export it with AES-256."
        ) from None


def _may_hold_certificate(opened: ParsedFile) -> bool:
    return bool(opened.of(Kind.CERTIFICATE, Kind.PKCS7, Kind.PKCS12))


_ADVICE = {
    Kind.CSR: "send it to the CA, and choose the certificate that comes back",
    Kind.PUBLIC_KEY: "ask its owner for the certificate, which holds more than the key",
    Kind.PRIVATE_KEY: "choose the certificate, and give the key beside it",
    Kind.ENCRYPTED_KEY: "choose the certificate, and give the key beside it",
    Kind.OPENSSH_KEY: "AS2 needs an X.509 certificate",
    Kind.CRL: "choose the certificate itself",
    Kind.MESSAGE: "choose the certificate itself",
    Kind.PARAMETERS: "choose the certificate itself",
    Kind.PGP: "AS2 needs an X.509 certificate",
    Kind.UNKNOWN: "choose the certificate itself, as PEM, DER or PKCS#7",
}


def _list_kinds(opened: ParsedFile) -> str:
    kinds = list(dict.fromkeys(part.kind.value for part in opened.parts))
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} and {kinds[-1]}"


def _no_certificate_message(opened: ParsedFile) -> str:
    """Return the message for a file without certificate: what it contains, and the advice."""
    if opened.of(Kind.PKCS12):
        return "The PKCS#12 file holds a key at most and no certificate: export it again, with its certificate."
    kinds = {part.kind for part in opened.parts}
    for kind in (*KEY_KINDS, Kind.CSR):
        if kind in kinds:
            return f"The file holds {_list_kinds(opened)} and no certificate: {_ADVICE[kind]}."
    advice = _ADVICE.get(opened.parts[0].kind, "choose the certificate itself")
    return f"The file holds {_list_kinds(opened)} and no certificate: {advice}."
