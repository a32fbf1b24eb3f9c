"""Fingerprints in any notation of people and tools."""

from __future__ import annotations

import pytest

from as2certs import pki
from tests.pki.sentences import error_message

HEX = "4a1fdeadbeef00112233445566778899aabbccddeeff0123456789abcdef019c"
FULL = "4A:1F:DE:AD:BE:EF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:01:23:45:67:89:AB:CD:EF:01:9C"


def test_a_fingerprint_is_shown_in_full_and_short() -> None:
    assert pki.format_fingerprint(HEX) == FULL
    assert pki.short_fingerprint(HEX) == "4A:1F:…:9C"
    assert pki.short_fingerprint("4a1f") == "4A:1F"


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        FULL,
        FULL.lower(),
        FULL.replace(":", " "),
        FULL.replace(":", "-"),
        FULL.replace(":", ""),
        f"  {FULL}\r\n",
        f"{FULL[:48]}\n{FULL[48:]}",
        f"sha256 Fingerprint={FULL}",
        f"SHA256 Fingerprint={FULL}",
        f"SHA-256: {FULL}",
        f"SHA256:{HEX}",
        f"SHA-256 fingerprint:  {FULL}",
        f"Fingerprint: {FULL}",
        f"Thumbprint = {HEX}",
        f"Certificate fingerprint (SHA-256): {FULL}",
        f"\u200e{HEX}",
        f"\ufeff{FULL}",
        " ".join(HEX[i : i + 4] for i in range(0, 64, 4)),
        f"0x{HEX}",
        f'"{FULL}"',
        f"„{FULL}“",
        f"Fingerabdruck (SHA-256): {FULL}",
        f"Empreinte SHA256 : {FULL}",
        f"Huella digital SHA 256: {HEX}",
        f"Fade {FULL}",
        f"Dec: {' '.join(HEX[i : i + 4] for i in range(0, 64, 4))}",
        f"cafe {HEX}",
        f"ab {FULL}",
        f"1. {FULL} ok",
        f"SHA-1: {HEX[:40]}\nSHA-256: {FULL}",
        f"<b>{FULL}</b>",
        f"拇印: {HEX}",
    ],
)
def test_every_notation_is_the_same_fingerprint(text: str) -> None:
    assert pki.normalise_fingerprint(text) == HEX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no fingerprint"),
        ("  :: ", "no fingerprint"),
        (HEX[:40], "as long as a SHA-1 fingerprint"),
        (HEX[:32], "as long as a MD5 fingerprint"),
        (HEX + HEX, "as long as a SHA-512 fingerprint"),
        (HEX[:-1], "has 63, so some are missing"),
        (HEX + "ab", "has 66, so there are too many"),
        (HEX[:-1] + "g", "“g”"),
        (HEX[:-1] + "O", "“o”"),
        ("the new certificate is installed", "“"),
        (HEX[:-1] + "\x00", "U+0000"),
        (f"old: {HEX}; new (SHA-256): {HEX[::-1]}", "several fingerprints"),
        ("a" * 100_000, "far longer"),
    ],
)
def test_other_text_than_a_sha256_fingerprint_is_refused_with_what_it_seems_to_be(text: str, expected: str) -> None:
    assert expected in error_message(lambda: pki.normalise_fingerprint(text))
