"""Certificates and private keys: read, describe, check, make, export, and seal them. Pure Python, no I/O, no clock.

Everything that a caller needs is here; every refusal is a `PkiError` whose message is one sentence for the user.
"""

from as2certs.pki.checking import ROLES, Finding, Known, Role, check
from as2certs.pki.containers import shows_private_key
from as2certs.pki.describing import Description, describe, load_der, serial_hex
from as2certs.pki.errors import (
    KeyMismatch,
    PkiError,
    PrivateKeyFound,
    UnreadableFile,
    VaultError,
    WrongPassword,
)
from as2certs.pki.exporting import (
    fingerprints_text,
    to_der,
    to_encrypted_pem,
    to_pem,
    to_pkcs7,
    to_pkcs12,
    to_zip,
)
from as2certs.pki.fingerprints import (
    format_fingerprint,
    normalise_fingerprint,
    possible_serials,
    short_fingerprint,
)
from as2certs.pki.generating import HASHES, KEY_SIZES, Subject, generate_key, self_signed, signing_request
from as2certs.pki.keys import (
    PrivateKey,
    key_from_der,
    key_to_der,
    must_belong,
    pem_key_fits,
    public_key_facts,
    public_key_sha256,
)
from as2certs.pki.limits import MAX_FILE_BYTES, read_bounded
from as2certs.pki.reading import Material, read_answer, read_key, read_own, read_public
from as2certs.pki.vault import Vault, new_key

__all__ = [
    "HASHES",
    "KEY_SIZES",
    "MAX_FILE_BYTES",
    "ROLES",
    "Description",
    "Finding",
    "KeyMismatch",
    "Known",
    "Material",
    "PkiError",
    "PrivateKey",
    "PrivateKeyFound",
    "Role",
    "Subject",
    "UnreadableFile",
    "Vault",
    "VaultError",
    "WrongPassword",
    "check",
    "describe",
    "fingerprints_text",
    "format_fingerprint",
    "generate_key",
    "key_from_der",
    "key_to_der",
    "load_der",
    "must_belong",
    "new_key",
    "normalise_fingerprint",
    "pem_key_fits",
    "possible_serials",
    "public_key_facts",
    "public_key_sha256",
    "read_answer",
    "read_bounded",
    "read_key",
    "read_own",
    "read_public",
    "self_signed",
    "serial_hex",
    "short_fingerprint",
    "shows_private_key",
    "signing_request",
    "to_der",
    "to_encrypted_pem",
    "to_pem",
    "to_pkcs7",
    "to_pkcs12",
    "to_zip",
]
