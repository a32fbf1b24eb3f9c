"""Codes of an authenticator app (RFC 6238)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time


def compute_code(secret: str, *, at: float | None = None) -> str:
    """Return the six digits that an app with this key (base32) shows at a moment (seconds since 1970; None: now)."""
    counter = int(time.time() if at is None else at) // 30
    mac = hmac.new(base64.b32decode(secret), struct.pack(">Q", counter), hashlib.sha1).digest()
    place = mac[-1] & 0x0F
    value = struct.unpack(">I", mac[place : place + 4])[0] & 0x7FFFFFFF
    return f"{value % 10**6:06}"
