"""A hook for OpenAS2 with the natural mistake: it takes what decrypts for what is in use, and lets it sign as well."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOOK = Path(__file__).resolve().parents[2] / "deploy" / "hooks" / "openas2_hook.py"

if __name__ == "__main__":
    if os.environ["AS2CERTS_SIDE"] == "own":
        os.environ["AS2CERTS_SIGN_CURRENT"] = os.environ["AS2CERTS_DECRYPT_CURRENT"]
    os.execv(sys.executable, [sys.executable, str(HOOK), *sys.argv[1:]])  # noqa: S606  # a shell has no part in it
