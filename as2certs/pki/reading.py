"""Read certificates and keys from files, whose format is detected by content, not by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from as2certs.pki.chains import describe_dates, find_leaf, newest
from as2certs.pki.checking import CertificateFinding, describe_repairs
from as2certs.pki.containers import FilePart, ParsedFile, parse_file, parse_partner_file
from as2certs.pki.describing import (
    Description,
    common_name,
    describe,
    is_ca,
    load_der,
    shorten,
    subject_and_issuer,
)
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
    check_encrypted_key_cost,
    check_key_size,
    check_pkcs12_cost,
    password_candidates,
)
from as2certs.pki.stores import inspect_pkcs12, pkcs12_decrypted, pkcs12_in_der
from as2certs.pki.structure import KEY_KINDS, PRIVATE_KINDS, Kind


@dataclass(frozen=True)
class Material:
    """A certificate with its chain (nearest issuer first) and, if requested, its private key.

    `container` is the format of the file: "PEM", "DER", "PKCS#7" or "PKCS#12". `notes` are phrases about what was
    repaired or left out to read it, such as "HTML or XML tags were taken out". `older` are certificates of the same
    name in the file, of which this one is the newest.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey | None = field(repr=False)
    container: str
    notes: tuple[str, ...] = ()
    older: tuple[x509.Certificate, ...] = ()

    @property
    def findings(self) -> list[CertificateFinding]:
        """Return what has to be known about the reading: a choice to confirm, and what was repaired or left out."""
        return [*self._describe_choice(), *describe_repairs(self.notes)]

    def _describe_choice(self) -> Iterator[CertificateFinding]:
        if self.older:
            yield CertificateFinding(
                "newest-of-several",
                "warning",
                f"The file holds {len(self.older) + 1} certificates of “{_display_name(self.leaf)}”, and the newest"
                f" one was taken ({describe_dates(self.leaf)}), not"
                f" {' and '.join(describe_dates(one) for one in self.older[:3])}.",
                "Check that it is the one that is meant, or choose a file with only the other.",
            )

    @cached_property
    def description(self) -> Description:
        """Return the description of the certificate; cached, since it verifies the signature."""
        return describe(self.leaf, self.chain)


class KeyMissing(UnreadableFile):
    """A certificate came without its private key; `material` is the certificate."""

    def __init__(self, message: str, material: Material) -> None:
        super().__init__(message)
        self.material = material


def read_public(data: bytes, *, partner: bool = False) -> Material:
    """Read a certificate and its chain from PEM, DER, PKCS#7, or a PKCS#12 without key, ignoring a private key.

    What is around them, and what mail programs and editors do to text, is undone (`as2certs.pki.containers`). With
    `partner`, a private key raises PrivateKeyFound. Anything but exactly one end-entity certificate with its issuers
    raises UnreadableFile.
    """
    opened = parse_partner_file(data) if partner else parse_file(data)
    for store in opened.of(Kind.PKCS12):
        contents = inspect_pkcs12(store.der)
        if contents.keys or contents.is_encrypted:
            raise UnreadableFile(
                "This is a PKCS#12 file, made to hold a private key: choose the certificate alone, as PEM, DER or"
                " PKCS#7."
            )
    return _build_material(opened, opened.certificates())


def read_with_key(
    data: bytes,
    *,
    password: str | None = None,
    key_data: bytes | None = None,
    key_password: str | None = None,
    kept_keys: Collection[str] = (),
) -> Material:
    """Read a certificate and its private key from one file (PKCS#12, PEM with both) or from two, in either order.

    Of several certificates, the key tells which one is meant, and where no key comes with them, one of the `kept_keys`
    (SHA-256 of public keys), which the caller has. Raises UnreadableFile, KeyMissing for a certificate alone,
    WrongPassword, or KeyMismatch if the key does not belong to the certificate.
    """
    first = parse_file(data)
    second = parse_file(key_data) if key_data is not None else None
    if second and not _may_hold_certificate(first) and _may_hold_certificate(second):
        first, second, password, key_password = second, first, key_password, password
    certificates, keys = _read_contents(first, password)
    if second and second.of(*PRIVATE_KINDS):
        keys = _read_keys(second, key_password if key_password is not None else password)
    elif second and not keys:
        raise UnreadableFile(
            f"The key's file holds {_list_kinds(second)} and no private key: choose the key's own file."
        )
    material = _build_material(first, certificates, [public_key_sha256(key) for key in keys] or kept_keys)
    if keys:
        notes = (*material.notes, *(second.notes if second else ()))
        return _attach_key(replace(material, notes=tuple(dict.fromkeys(notes))), keys)
    _refuse_newer_without_key(material, certificates)
    raise KeyMissing(
        "The file holds a certificate without its private key: choose the key's file too, or PKCS#12 with both.",
        material,
    )


def _refuse_newer_without_key(material: Material, certificates: Sequence[x509.Certificate]) -> None:
    """Raise UnreadableFile if a newer certificate of the same name was left out, since its key is not at hand."""
    same = [one for one in dict.fromkeys(certificates) if one.subject == material.leaf.subject]
    latest = newest(same)
    if latest is not None and latest != material.leaf:
        raise UnreadableFile(
            f"The file holds several certificates of “{_display_name(latest)}”, and the key of the newest one"
            f" ({describe_dates(latest)}) is not here: choose its key's file too, or a file with only the other"
            f" ({describe_dates(material.leaf)})."
        )


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
    certificates = opened.certificates()
    ours = public_key_facts(key)
    if certificates and all(is_ca(one) and public_key_sha256(one) != ours.sha256 for one in certificates):
        names = [f"“{_display_name(one)}”" for one in dict.fromkeys(certificates)]
        raise KeyMismatch(
            f"The file holds only certificates of CAs ({' and '.join(names[:3])}), and your own is missing: bring the"
            " one that this CA issued for your request."
        )
    material = _build_material(opened, certificates, [ours.sha256])
    theirs = public_key_facts(material.leaf)
    if ours.sha256 != theirs.sha256:
        raise KeyMismatch(f"The CA's answer is not for the key that waits here: {describe_mismatch(ours, theirs)}.")
    return replace(material, key=key)


def _read_contents(opened: ParsedFile, password: str | None) -> tuple[list[x509.Certificate], list[PrivateKey]]:
    """Return the certificates and the keys; keys are not decrypted without a certificate."""
    stores = opened.of(Kind.PKCS12)
    if stores:
        key, certificates = _read_pkcs12(stores[0].der, password)
        return certificates, [key] if key else []
    certificates = opened.certificates()
    return certificates, _read_keys(opened, password) if certificates else []


def _build_material(
    opened: ParsedFile, certificates: Sequence[x509.Certificate], keys: Collection[str] = ()
) -> Material:
    """Return the certificate that the keys tell, with its chain, without its key."""
    if not certificates:
        raise UnreadableFile(_no_certificate_message(opened))
    found = find_leaf(certificates, keys)
    kinds = {Kind.PKCS12: "PKCS#12", Kind.PKCS7: "PKCS#7"}
    container = next((name for kind, name in kinds.items() if opened.of(kind)), opened.encoding)
    notes = opened.notes
    if found.others:
        names = ", ".join(f"“{_display_name(one)}”" for one in found.others[:3])
        more = f" and {len(found.others) - 3} more" if len(found.others) > 3 else ""
        notes = (*notes, f"other certificates in the file ({names}{more}) were left out")
    return Material(found.leaf, found.chain, None, container, notes, found.older)


def _display_name(cert: x509.Certificate) -> str:
    return shorten(common_name(cert) or subject_and_issuer(cert)[0] or "no name")


def _attach_key(material: Material, keys: Sequence[PrivateKey]) -> Material:
    """Add the key that belongs to the leaf; raise KeyMismatch if none does."""
    wanted = public_key_sha256(material.leaf)
    key = next((one for one in keys if public_key_sha256(one) == wanted), keys[0])
    require_key_matches(key, material.leaf)
    return replace(material, key=key)


def _read_pkcs12(der: bytes, password: str | None) -> tuple[PrivateKey | None, list[x509.Certificate]]:
    """Return key and certificates of a PKCS#12 file (RFC 7292); without a password, try an empty one and none."""
    rounds = check_pkcs12_cost(der)
    given = password_candidates(password, rounds)
    candidates: list[bytes | None] = [*given] or [b"", None]
    for candidate in candidates:
        store = _open_pkcs12(der, candidate)
        if store is not None:
            break
    else:
        hint = _blank_hint(password)
        raise WrongPassword(
            f"The password does not open this PKCS#12 file: type the one with which it was exported{hint}."
            if given
            else "This PKCS#12 file needs a password: type the one with which it was exported."
        )
    with convert_parser_errors("A certificate in the PKCS#12 file is damaged: export it again."):
        held = [store.cert, *store.additional_certs]
        certificates = [load_der(one.certificate.public_bytes(Encoding.DER)) for one in held if one is not None]
    return (require_supported_key(store.key) if store.key is not None else None), certificates


def _open_pkcs12(der: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates | None:
    """Return the decrypted store, None for a wrong password; raise UnreadableFile for a damaged file."""
    if password is not None and not _is_utf8(password):
        try:
            decrypted = pkcs12_decrypted(der, password)
        except PARSER_ERRORS:
            return None
        # The library takes no other passwords than UTF-8.
        return _open_pkcs12(decrypted, None) if decrypted is not None else None
    with convert_parser_errors("The PKCS#12 file is damaged: export it again."):
        der = pkcs12_in_der(der, password)
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


def _is_utf8(password: bytes) -> bool:
    try:
        password.decode()
    except UnicodeDecodeError:
        return False
    return True


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
    rounds = check_encrypted_key_cost(part.der) if part.der else 1
    check_key_size(part.der or part.pem[: len(part.pem) * 3 // 4])
    candidates = password_candidates(password, rounds)
    if not candidates:
        raise WrongPassword("The private key is encrypted and needs a password: type the one it was exported with.")
    for candidate in candidates[:-1]:
        with suppress(WrongPassword):
            return _decrypt_key(part, candidate, password)
    return _decrypt_key(part, candidates[-1], password)


def _decrypt_key(part: FilePart, secret: bytes, password: str | None) -> PrivateKey:
    with convert_parser_errors(
        "The password does not open the private key, or the key is damaged: type it again"
        f"{_blank_hint(password)}, or export it again.",
        WrongPassword,
    ):
        try:
            if part.pem:
                return require_supported_key(load_pem_private_key(part.pem, secret))
            return require_supported_key(load_der_private_key(part.der, secret))
        except UnsupportedAlgorithm:
            raise UnreadableFile(
                "The private key is protected in a way that is not known here: export it with AES-256."
            ) from None


def _blank_hint(password: str | None) -> str:
    """Return a hint at white space around a password, which copying adds."""
    if not password or password == password.strip():
        return ""
    where = "ends" if password[-1:].isspace() else "begins"
    return f", and try it without the blank with which it {where}"


def _may_hold_certificate(opened: ParsedFile) -> bool:
    return bool(opened.of(Kind.CERTIFICATE, Kind.PKCS7, Kind.PKCS12))


_ADVICE = {
    Kind.CSR: "send it to the CA, and choose the certificate that comes back",
    Kind.PUBLIC_KEY: "ask its owner for the certificate, which holds more than the key",
    Kind.PRIVATE_KEY: "choose the certificate, and give the key beside it",
    Kind.ENCRYPTED_KEY: "choose the certificate, and give the key beside it",
    Kind.OPENSSH_KEY: "AS2 needs an X.509 certificate",
    Kind.ATTRIBUTE_CERTIFICATE: "it gives rights to a holder and has no key, so choose the holder's X.509 certificate",
    Kind.OCSP_RESPONSE: "it says whether a certificate was revoked, so choose the certificate itself",
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
