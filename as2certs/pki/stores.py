"""Look into PKCS#7, PKCS#12 (RFC 7292) and Java keystores without a password: what they hold, what opening costs."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from as2certs.pki.asn1 import OCTET_STRING, OID, SEQUENCE, Asn1Error, Element, encode, read_element, to_der
from as2certs.pki.errors import UnreadableFile, convert_parser_errors

MAX_SAFES = 100
MAX_SCRYPT_COST = 2**20
"""Maximum N x r x p of scrypt: 128 MiB of memory."""

_DATA, _ENCRYPTED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.6"
_BAG = "1.2.840.113549.1.12.10.1."
_X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"
_PBES2, _PBKDF2 = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12"
_PBMAC1 = "1.2.840.113549.1.5.14"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
#: By the object identifier of a hash (RFC 8017, appendix B.1): its name, and the size of its blocks in bytes.
_MAC_HASHES = {
    "1.3.14.3.2.26": ("sha1", 64),
    "2.16.840.1.101.3.4.2.1": ("sha256", 64),
    "2.16.840.1.101.3.4.2.2": ("sha384", 128),
    "2.16.840.1.101.3.4.2.3": ("sha512", 128),
}
_DATA_CONTENT = bytes.fromhex("2a864886f70d010701")
_AES_KEY_BYTES = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.42": 32,
}
#: The hash of a pseudorandom function of PBKDF2 (RFC 8018, B.1.1).
_KDF_HASHES = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_JKS_MAGIC, _JCEKS_MAGIC = b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"


@dataclass(frozen=True)
class StoreContents:
    """What is visible of a PKCS#12 file or a Java keystore without its password.

    `keys` are private keys, encrypted or not; `certificates` are DER. `is_encrypted` says that there are parts which
    may hold anything. `rounds` is the sum of the rounds of key derivation that opening costs.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    certificates: tuple[bytes, ...]
    is_encrypted: bool
    rounds: int = 0


def inspect_pkcs12(data: bytes) -> StoreContents:
    """Return what is visible in a PKCS#12 file, DER or BER. Raises UnreadableFile for a damaged one."""
    with convert_parser_errors("The PKCS#12 file is damaged or cut off: export it again."):
        pfx = read_element(data).children()
        keys: list[bytes] = []
        certificates: list[bytes] = []
        is_encrypted, rounds = False, _mac_rounds(pfx[2]) if len(pfx) > 2 else 0
        safes = _safes(pfx)
        if len(safes) > MAX_SAFES:
            raise UnreadableFile(
                f"The PKCS#12 file has {len(safes)} parts: export only the certificate that is needed."
            )
        for kind, content in safes:
            if kind != _DATA:
                is_encrypted = True
                if kind == _ENCRYPTED_DATA:
                    rounds += derivation_rounds(content.children()[1].children()[1])
                continue
            for bag, value in _bags(content):
                if bag == "2":
                    algorithm, sealed = value.children()[:2]
                    rounds += derivation_rounds(algorithm)
                    keys.append(sealed.octets())
                elif bag == "1":
                    keys.append(value.raw)
                elif bag == "3":
                    certificates += _certificate(value)
                elif bag == "6":
                    raise UnreadableFile("The PKCS#12 file has bags inside bags: export only what is needed.")
                elif bag != "4":
                    is_encrypted = True
        return StoreContents(tuple(keys), tuple(certificates), is_encrypted, rounds)


def inspect_java_keystore(data: bytes) -> StoreContents | None:
    """Return what is visible in a Java keystore, JKS or JCEKS; None for other files.

    A cut off keystore has the entries up to there, and `is_encrypted` set, since others may follow. The types of its
    entries are readable: 1 a private key, 2 a certificate, 3 a secret key (sun.security.provider.JavaKeyStore).
    """
    if data[:4] not in (_JKS_MAGIC, _JCEKS_MAGIC):
        return None
    keys: list[bytes] = []
    certificates: list[bytes] = []
    reader = _Reader(data, 8)
    try:
        count = reader.number(4)
        for _ in range(min(count, MAX_SAFES)):
            tag = reader.number(4)
            reader.take(reader.number(2))  # its alias
            reader.take(8)  # its date
            if tag == 1:
                # Known to be a key by its tag, even if the file ends in it.
                keys.append(b"")
                reader.take(reader.number(4))
            chain = reader.number(4) if tag == 1 else 1
            if tag not in (1, 2) or chain > MAX_SAFES:
                raise Asn1Error("a secret key, or damage")
            for _ in range(chain):
                reader.take(reader.number(2))  # the type "X.509"
                certificates.append(reader.take(reader.number(4)))
    except Asn1Error:
        return StoreContents(tuple(keys), tuple(certificates), is_encrypted=True)
    return StoreContents(tuple(keys), tuple(certificates), is_encrypted=count > MAX_SAFES)


def pkcs7_certificates(data: bytes) -> list[bytes]:
    """Return the certificates of a PKCS#7 structure (RFC 5652, 5.1), DER or BER, each as DER.

    Raises UnreadableFile for a damaged structure, and for one without certificates.
    """
    with convert_parser_errors("The PKCS#7 file is damaged: ask for it again."):
        _, signed = _content_info(read_element(data))
        found = [element for element in signed.children()[3:] if element.identifier == 0xA0]
        certificates = [one.raw for one in found[0].children() if one.identifier == SEQUENCE] if found else []
    if not certificates:
        raise UnreadableFile("The PKCS#7 file holds no certificate: export it again, with the certificate.")
    return certificates


def pkcs12_in_der(data: bytes, password: bytes | None) -> bytes:
    """Return a PKCS#12 file in DER, for parsers that take no BER; what is DER already stays as it is.

    The MAC protects the bytes inside (RFC 7292, section 4), so it is verified before they are rewritten, and made
    anew. A file whose MAC does not fit the password keeps its bytes inside. Raises Asn1Error for a damaged file.
    """
    outer = to_der(data)
    pfx = read_element(outer).children()
    kind, content = _content_info(pfx[1])
    if kind != _DATA:
        return outer
    inside = content.octets()
    rewritten = _safes_in_der(inside)
    if rewritten == inside:
        return outer
    mac = b""
    if len(pfx) > 2:
        made = _remade_mac(pfx[2], inside, rewritten, password)
        if made is None:
            return outer
        mac = made
    wrapped = encode(0xA0, encode(OCTET_STRING, rewritten))
    return encode(SEQUENCE, pfx[0].raw, encode(SEQUENCE, pfx[1].children()[0].raw, wrapped), mac)


def pkcs12_decrypted(data: bytes, password: bytes) -> bytes | None:
    """Return a PKCS#12 file without its encryption and MAC, for parsers that take passwords in UTF-8 only.

    OpenSSL derives the keys of AES from the bytes that were typed, in whatever code (RFC 8018, section 3), and that of
    the MAC from letters. Returns None if the password does not fit, or the file is encrypted otherwise. The costs have
    to be checked before. Raises ValueError for a damaged file.
    """
    pfx = read_element(to_der(data)).children()
    kind, content = _content_info(pfx[1])
    if kind != _DATA or len(pfx) < 3 or _remade_mac(pfx[2], content.octets(), b"", password) is None:
        return None
    safes = []
    for kind, content in _safes(pfx):
        if kind == _ENCRYPTED_DATA:
            _, algorithm, sealed = content.children()[1].children()[:3]
            plain = _decrypt_pbes2(algorithm, sealed.octets(), password)
        else:
            plain = content.octets()
        bags = [_decrypted_bag(bag, password) for bag in read_element(to_der(plain)).children()]
        safe = encode(OCTET_STRING, encode(SEQUENCE, *bags))
        safes.append(encode(SEQUENCE, encode(OID, _DATA_CONTENT), encode(0xA0, safe)))
    wrapped = encode(0xA0, encode(OCTET_STRING, encode(SEQUENCE, *safes)))
    return encode(SEQUENCE, pfx[0].raw, encode(SEQUENCE, encode(OID, _DATA_CONTENT), wrapped))


def _decrypted_bag(bag: Element, password: bytes) -> bytes:
    """Return a bag of a safe, with its private key in the clear if it is one."""
    parts = bag.children()
    if parts[0].dotted() != f"{_BAG}2":
        return bag.raw
    algorithm, sealed = parts[1].children()[0].children()[:2]
    key = _decrypt_pbes2(algorithm, sealed.octets(), password)
    clear = encode(OID, parts[0].content[:-1], b"\x01")
    return encode(SEQUENCE, clear, encode(0xA0, key), *(part.raw for part in parts[2:]))


def _decrypt_pbes2(algorithm: Element, sealed: bytes, password: bytes) -> bytes:
    """Return what is encrypted with AES-CBC under PBKDF2 (RFC 8018, 6.2). Raises ValueError for anything else."""
    name, parameters = algorithm.children()[:2]
    derivation, cipher = parameters.children()[:2]
    kdf, kdf_parameters = derivation.children()[:2]
    size = _AES_KEY_BYTES.get(cipher.children()[0].dotted())
    if name.dotted() != _PBES2 or kdf.dotted() != _PBKDF2 or size is None:
        raise ValueError("encrypted in another way")
    salt, rounds, *others = kdf_parameters.children()
    functions = [one.children()[0].dotted() for one in others if one.identifier == SEQUENCE]
    digest = _KDF_HASHES[functions[0]] if functions else "sha1"
    key = hashlib.pbkdf2_hmac(digest, password, salt.octets(), rounds.integer(), size)
    decryptor = Cipher(AES(key), CBC(cipher.children()[1].octets())).decryptor()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(sealed) + decryptor.finalize()) + unpadder.finalize()


def derivation_rounds(algorithm: Element) -> int:
    """Return the rounds of key derivation of an encryption algorithm (RFC 8018, RFC 7292, RFC 7914)."""
    parts = algorithm.children()
    if len(parts) < 2 or not parts[1].is_constructed:
        return 0
    parameters = parts[1].children()
    if parts[0].dotted() in (_PBES2, _PBMAC1):
        return _kdf_rounds(parameters[0])
    return abs(parameters[1].integer()) if len(parameters) == 2 and parameters[1].identifier == 0x02 else 0


def _kdf_rounds(kdf: Element) -> int:
    parts = kdf.children()
    name = parts[0].dotted()
    if name == _PBKDF2:
        return abs(parts[1].children()[1].integer())
    if name == _SCRYPT:
        cost = 1
        for number in parts[1].children()[1:4]:
            cost *= abs(number.integer())
        if cost > MAX_SCRYPT_COST:
            raise UnreadableFile(
                "The file asks scrypt for more memory than a key needs: export it again with usual settings."
            )
    return 0


def _mac_rounds(mac: Element) -> int:
    parts = mac.children()
    algorithm = parts[0].children()[0]
    if algorithm.children()[0].dotted() == _PBMAC1:
        return derivation_rounds(algorithm)
    return abs(parts[2].integer()) if len(parts) > 2 else 1


def _content_info(element: Element) -> tuple[str, Element]:
    """Return the type of a ContentInfo (RFC 5652, section 3), and its content."""
    parts = element.children()
    return parts[0].dotted(), parts[1].children()[0]


def _safes(pfx: list[Element]) -> list[tuple[str, Element]]:
    kind, content = _content_info(pfx[1])
    if kind != _DATA:
        return [(kind, content)]  # signed with a key instead of a password, or encrypted for one
    return [_content_info(safe) for safe in read_element(content.octets()).children()]


def _bags(content: Element) -> Iterator[tuple[str, Element]]:
    """Yield the bags of a safe: the last arc of the type's identifier, and the value."""
    for bag in read_element(content.octets()).children():
        name, value = bag.children()[:2]
        yield name.dotted().removeprefix(_BAG), value.children()[0]


def _certificate(bag: Element) -> list[bytes]:
    name, value = bag.children()[:2]
    return [value.children()[0].octets()] if name.dotted() == _X509_CERTIFICATE else []


def _safes_in_der(inside: bytes) -> bytes:
    """Return the safes of a PKCS#12 file in DER, with the bags of those that are not encrypted."""
    safes = []
    for safe in read_element(to_der(inside)).children():
        kind, content = _content_info(safe)
        if kind == _DATA:
            value = encode(OCTET_STRING, to_der(content.octets()))
            safes.append(encode(SEQUENCE, safe.children()[0].raw, encode(0xA0, value)))
        else:
            safes.append(safe.raw)
    return encode(SEQUENCE, *safes)


def _remade_mac(mac: Element, old: bytes, new: bytes, password: bytes | None) -> bytes | None:
    """Return the MAC of other bytes under the same password; None if it can't be made, or the password is wrong."""
    parts = mac.children()
    info, salt = parts[0].children(), parts[1].octets()
    rounds = parts[2].integer() if len(parts) > 2 else 1
    known = _MAC_HASHES.get(info[0].children()[0].dotted())
    if known is None or rounds < 1:
        return None
    name, block = known
    key = _derive_mac_key(password, salt, rounds, name, block)
    if not hmac.compare_digest(hmac.digest(key, old, name), info[1].octets()):
        return None
    digest = encode(SEQUENCE, info[0].raw, encode(OCTET_STRING, hmac.digest(key, new, name)))
    return encode(SEQUENCE, digest, *(part.raw for part in parts[1:]))


def _derive_mac_key(password: bytes | None, salt: bytes, rounds: int, name: str, block: int) -> bytes:
    """Return the key of a MAC (RFC 7292, appendix B.2, with ID 3): one hash long, so that one block is enough."""
    try:
        text = (password or b"").decode()
    except UnicodeDecodeError:
        text = (password or b"").decode("latin-1")
    secret = b"" if password is None else text.encode("utf-16-be", "surrogatepass") + b"\x00\x00"
    filled = b"".join(
        (value * (-(-len(value) // block) * block // len(value) + 1))[: -(-len(value) // block) * block]
        for value in (salt, secret)
        if value
    )
    digest = hashlib.new(name, b"\x03" * block + filled).digest()
    for _ in range(rounds - 1):
        digest = hashlib.new(name, digest).digest()
    return digest


@dataclass
class _Reader:
    """Reads numbers and bytes one after the other; raises Asn1Error at the end of the data."""

    data: bytes
    position: int

    def take(self, size: int) -> bytes:
        if size < 0 or self.position + size > len(self.data):
            raise Asn1Error("cut off")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
