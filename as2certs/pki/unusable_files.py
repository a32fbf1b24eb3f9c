"""Name files that hold no certificate, and say in one sentence what to do instead."""

from __future__ import annotations

import re

from as2certs.pki.errors import PkiError
from as2certs.pki.fingerprints import normalise_fingerprint
from as2certs.pki.structure import Kind, classify, is_truncated
from as2certs.pki.unwrapping import is_mail

UNKNOWN_BINARY = "The file is binary data that is neither a certificate nor a key: choose the right file."
JAVA_KEYSTORE_WITH_KEY = (
    "The file is a Java keystore with a private key in it: turn it into PKCS#12 with “keytool -importkeystore"
    " -srckeystore … -destkeystore new.p12 -deststoretype PKCS12”, and choose that."
)
PUTTY_KEY = (
    "The file is a PuTTY key (.ppk): open it in PuTTYgen, choose “Conversions” and “Export OpenSSH key”, and turn that"
    " into PEM with “ssh-keygen -p -m PEM -f” and its name."
)
MICROSOFT_KEY = (
    "The file is a Microsoft private key (.pvk): turn it into PEM with “openssl rsa -inform PVK -in name.pvk -out"
    " name.key”, and choose that."
)

_DAMAGED_PEM_MARK = re.compile(
    rb"(?:BEGIN|END) (?:[A-Z0-9]{1,20} ){0,2}(?:CERTIFICATE|PRIVATE KEY|PKCS ?#?7|CMS)", re.IGNORECASE
)
_SIGNATURE_ALGORITHM = re.compile(rb"\x30.\x06", re.DOTALL)
#: Words for the fields of a certificate, as openssl, certutil, keytool and Windows print them in several languages.
_PRINTED_FIELDS = re.compile(
    r"(?im)^[ \t*]*(?:version|serial ?number|seriennummer|num[eé]ro de s[eé]rie|n[uú]mero de serie|numero di serie"
    r"|subject|issuer|owner|antragsteller|aussteller|besitzer|eigent[uü]mer|sujet|objet|[eé]metteur|titular|emisor"
    r"|soggetto|emittente|onderwerp|verlener|validity|valid from|not ?before|not ?after|g[uü]ltig (?:ab|von|bis)"
    r"|signature ?algorithm|signaturalgorithmus|public ?key ?algorithm|algorithme de signature|thumbprint"
    r"|x\.?509.{0,2}(?:certificate|zertifikat)|certificate fingerprints?|zertifikat-?fingerprints?)\b[^\n]{0,5}[:=]"
)

#: The first bytes of files that are mistaken for certificates, what they are, and the advice.
_MAGIC = (
    (b"PK\x03\x04", "a ZIP archive", "unpack it and choose the certificate inside"),
    (b"PK\x05\x06", "an empty ZIP archive", "pack it again, with the certificate"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and choose the certificate inside"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it and choose the certificate inside"),
    (b"Rar!", "a RAR archive", "unpack it and choose the certificate inside"),
    (b"BZh", "a bzip2 archive", "unpack it and choose the certificate inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and choose the certificate inside"),
    (b"MSCF", "a Windows cabinet (.cab)", "unpack it and choose the certificate inside"),
    (
        b"\xfe\xed\xfe\xed",
        "a Java keystore, which may hold private keys",
        "export only the certificate, with “keytool -exportcert -rfc”",
    ),
    (
        b"\xce\xce\xce\xce",
        "a Java keystore, which may hold private keys",
        "export only the certificate, with “keytool -exportcert -rfc”",
    ),
    (
        b"\x00\x00\x00\x00CERT",
        "a Microsoft certificate store (.sst)",
        "open it in Windows, and export the certificate as .cer or .p7b, which the export wizard offers",
    ),
    (
        b"L\x00\x00\x00\x01\x14\x02\x00",
        "a Windows shortcut (.lnk), which only says where a file lies",
        "choose the file itself that it leads to",
    ),
    (
        b"[internetshortcut]",
        "an Internet shortcut (.url), which only holds an address",
        "download the certificate from there, and choose that file",
    ),
    (
        b"[desktop entry]",
        "a shortcut (.desktop), which only says where something is",
        "choose the file itself that it leads to",
    ),
    (
        b"\x78\x9f\x3e\x22",
        "a winmail.dat, in which Outlook wraps attachments",
        "ask for the certificate packed into a ZIP file, or for a mail in plain text format",
    ),
    (b"{\\rtf", "an RTF document of WordPad or Word", "ask for the certificate as a file of its own"),
    (b"%PDF", "a PDF document", "ask for the certificate as a file of its own"),
    (b"\xd0\xcf\x11\xe0", "an Outlook message or an Office document", "save the certificate out of it"),
    (b"\x89PNG", "a picture", "ask for the certificate as a file of its own"),
    (b"\xff\xd8\xff", "a picture", "ask for the certificate as a file of its own"),
    (b"GIF8", "a picture", "ask for the certificate as a file of its own"),
    (b"BM", "a picture", "ask for the certificate as a file of its own"),
    (b"ssh-", "an SSH public key", "ask for an X.509 certificate"),
    (b"ecdsa-sha2-", "an SSH public key", "ask for an X.509 certificate"),
    (b"---- BEGIN SSH2", "an SSH public key", "ask for an X.509 certificate"),
    (b"<!doctype html", "a web page", "download the certificate itself"),
    (b"<html", "a web page", "download the certificate itself"),
    (b"<", "an XML document", "choose the certificate itself"),
    (b"{", "a JSON document", "choose the certificate itself"),
    (b"mz", "a program", "choose the certificate itself"),
)


def describe_unusable_file(data: bytes, text: str | None) -> str:
    """Return in one sentence what an unusable file seems to be; `text` is its text, if it has one."""
    start = data[:512].lstrip().lower()
    if data[:4] == b"\x1e\xf1\xb5\xb0":
        return MICROSOFT_KEY
    if text is not None and "PuTTY-User-Key-File-" in text[:2000]:
        return PUTTY_KEY
    if _DAMAGED_PEM_MARK.search(text.encode() if text else data):
        return (
            "The file looks like PEM, but its BEGIN or END lines, or the text between them, are damaged: each such line"
            " starts and ends with five hyphens, which mail and word processors like to change, so ask for the file as"
            " an attachment."
        )
    if is_mail(data):
        return "The file is an e-mail, and no certificate is in it: save its attachment and choose that."
    for magic, what, advice in _MAGIC:
        if start.startswith(magic.lower()):
            return f"The file is {what}, not a certificate: {advice}."
    if text is None:
        return describe_spoilt_file(data) or UNKNOWN_BINARY
    if len({found.lower().strip(" \t*:=") for found in _PRINTED_FIELDS.findall(text[:20_000])}) >= 2:
        return (
            "The file is the printed text of a certificate, as openssl, certutil or keytool show it, without the"
            " certificate: ask for the file itself, in PEM or DER."
        )
    if _is_fingerprint(text):
        return (
            "The file holds only a fingerprint, by which a certificate is compared: ask for the certificate itself,"
            " in PEM or DER."
        )
    if "\ufffd" in text[:2000] or (not text.isascii() and data[:1] == b"\x30"):
        return describe_spoilt_file(data) or UNKNOWN_BINARY
    if sum(character.isprintable() or character.isspace() for character in text[:2000]) < 0.9 * len(text[:2000]):
        return UNKNOWN_BINARY
    return "The file is a text without a certificate or key in it: choose the right one, as PEM or DER."


def describe_spoilt_file(data: bytes) -> str:
    """Return what happened to DER that was changed on its way, empty if that is not what the bytes look like."""
    if len(data) < 100 or data[:1] != b"\x30":
        return ""
    if b"\xef\xbf\xbd" in data[:2000] or data[1:3] == b"\xc2\x82":
        return (
            "The file looks like a certificate that was opened and saved with a text editor, which destroyed it: ask"
            " for the file again, unopened or packed into a ZIP file."
        )
    as_text = (
        "The file looks like a certificate that was changed in transfer, by FTP’s text mode instead of binary mode: ask"
        " for it again in binary mode, or packed into a ZIP file."
    )
    if data[1:2] == b"\x02" and max(data) < 0x80:
        return as_text  # the eighth bit of each byte is gone
    restored = data.replace(b"\r\n", b"\n")
    if len(restored) < len(data) and not is_truncated(restored) and classify(restored) is not Kind.UNKNOWN:
        return as_text
    announced = int.from_bytes(data[2:4], "big") + 4 if data[1] == 0x82 else 0
    lost = announced - len(data)
    after_tbs = int.from_bytes(data[6:8], "big") + 8 if data[4:6] == b"\x30\x82" else 0
    if 0 < lost <= 20 and after_tbs and b"\r\n" not in data and not _SIGNATURE_ALGORITHM.match(data, after_tbs):
        return as_text  # line feeds inside have lost their carriage returns, unless only the end is missing
    if 0 < -lost == data.count(b"\r\n") and announced:
        return as_text
    return ""


def _is_fingerprint(text: str) -> bool:
    if len(text) > 1000:
        return False
    try:
        normalise_fingerprint(text, sha1=True)
    except PkiError as error:
        return "as long as a" in str(error) or (
            "hex digits" in str(error) and bool(re.search(r"(?i)fingerprint|thumbprint|fingerabdruck|empreinte", text))
        )
    return True
