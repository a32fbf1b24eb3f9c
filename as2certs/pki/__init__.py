"""X.509 certificates and private keys: read, describe, check, generate, export and seal them.

Pure Python without Django, I/O or a clock; what needs the database is in `identities.certificates`. Callers import from
here; every error is a `PkiError` whose message is one sentence for the user.
"""

from as2certs.pki.checking import (
    ROLES,
    CertificateFinding,
    IntendedUse,
    KnownCertificate,
    Role,
    allow_expired,
    check_certificate,
    describe_repairs,
)
from as2certs.pki.containers import contains_private_key
from as2certs.pki.describing import Description, describe, load_der, load_pem, serial_hex
from as2certs.pki.errors import (
    KeyMismatch,
    PkiError,
    PrivateKeyFound,
    UnreadableFile,
    VaultError,
    WrongPassword,
)
from as2certs.pki.exporting import (
    LEGACY_PKCS12,
    Pkcs12Encryption,
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
from as2certs.pki.generating import (
    KEY_SIZES,
    CertificateSubject,
    generate_key,
    make_self_signed,
    make_signing_request,
)
from as2certs.pki.keys import (
    PrivateKey,
    key_from_der,
    key_to_der,
    pem_key_matches,
    public_key_facts,
    public_key_sha256,
)
from as2certs.pki.limits import MAX_FILE_BYTES, read_bounded
from as2certs.pki.names import name_in_openssl, name_in_windows
from as2certs.pki.reading import KeyMissing, Material, read_ca_response, read_key, read_public, read_with_key
from as2certs.pki.vault import Vault, new_vault_key

__all__ = [
    "KEY_SIZES",
    "LEGACY_PKCS12",
    "MAX_FILE_BYTES",
    "ROLES",
    "CertificateFinding",
    "CertificateSubject",
    "Description",
    "IntendedUse",
    "KeyMismatch",
    "KeyMissing",
    "KnownCertificate",
    "Material",
    "Pkcs12Encryption",
    "PkiError",
    "PrivateKey",
    "PrivateKeyFound",
    "Role",
    "UnreadableFile",
    "Vault",
    "VaultError",
    "WrongPassword",
    "allow_expired",
    "check_certificate",
    "contains_private_key",
    "describe",
    "describe_repairs",
    "fingerprints_text",
    "format_fingerprint",
    "generate_key",
    "key_from_der",
    "key_to_der",
    "load_der",
    "load_pem",
    "make_self_signed",
    "make_signing_request",
    "name_in_openssl",
    "name_in_windows",
    "new_vault_key",
    "normalise_fingerprint",
    "pem_key_matches",
    "possible_serials",
    "public_key_facts",
    "public_key_sha256",
    "read_bounded",
    "read_ca_response",
    "read_key",
    "read_public",
    "read_with_key",
    "serial_hex",
    "short_fingerprint",
    "to_der",
    "to_encrypted_pem",
    "to_pem",
    "to_pkcs7",
    "to_pkcs12",
    "to_zip",
]
