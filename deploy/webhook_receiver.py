#!/usr/bin/env python3
"""Receive changes of certificates from a signed webhook, on the side of an AS2 system; Python 3.11, nothing else.

    webhook_receiver.py PORT FOLDER [COMMAND …]

FOLDER/keys.json has the secrets by key ID: {"2026-11": "…"}; put a second one there while the secret is replaced. For
each role, the certificate and its chain are written to a file in FOLDER, and COMMAND, which imports it into the AS2
system, runs with its path, the role, the move and the fingerprint. It ends with 0 when the AS2 system uses it, with 79
when it is stored only, so that it runs again when that is asked, and with any other status when it failed. It may run
twice for one change. Put a web server with TLS in front of this one.
"""

import hashlib
import hmac
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

MAX_BODY_BYTES = 512 * 1024
WINDOW_SECONDS = 300
NOT_YET = 79


class Receiver(BaseHTTPRequestHandler):
    """Answer POST with the result of a change, and GET with what is in use; one request at a time."""

    folder: Path
    argv: list[str]
    timeout = 30  # seconds that a client may take to send its request

    def do_GET(self) -> None:
        query = urlsplit(self.path).query
        if not self.is_signed(query.encode()):
            return
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        state = self.read_state()
        found: dict[str, Any] = {}
        for name in (name_station(asked), name_station(asked | {"partner": ""})):
            for role, entries in state["stations"].get(name, {}).items():
                if any(one["state"] == "stored" for one in entries):
                    entries[:] = self.install(name, role, entries[0], entries[1:])
                found.setdefault(role, entries)
        self.write_state(state)
        self.answer(200, {"roles": {role: found.get(role, []) for role in asked.get("roles", "").split(",") if role}})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() and int(length) <= MAX_BODY_BYTES else b""
        if len(body) != int(length or -1):
            self.answer(400, {"reason": f"A body of at most {MAX_BODY_BYTES} bytes is wanted."})
        elif self.is_signed(body):
            operation, digest = self.headers.get("Idempotency-Key", ""), hashlib.sha256(body).hexdigest()
            state = self.read_state()
            done = state["done"].get(operation)
            if done and done["body"] != digest:
                self.answer(409, {"reason": "This operation was another change."})
                return
            status, reason = (done["status"], "") if done else self.apply(state, json.loads(body))
            if status < 300:
                state["done"][operation] = {"body": digest, "status": status}
            self.write_state(state)
            self.answer(status, {"reason": reason})

    def is_signed(self, content: bytes) -> bool:
        """Return whether a known key signed this within the last minutes; answer 401 if not."""
        secret = json.loads((self.folder / "keys.json").read_text()).get(self.headers.get("X-AS2Certs-Key"), "")
        timestamp = self.headers.get("X-AS2Certs-Timestamp", "")
        wanted = hmac.new(secret.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(wanted.encode(), self.headers.get("X-AS2Certs-Signature", "").encode())
        if secret and signed and abs(time.time() - int(timestamp)) <= WINDOW_SECONDS:
            return True
        self.answer(401, {"reason": "The signature is wrong, or more than 5 minutes old."})
        return False

    def apply(self, state: dict[str, Any], change: dict[str, Any]) -> tuple[int, str]:
        """Make a change role by role, until one fails; return the status and the reason."""
        name, new, status = name_station(change), change["new"], 200
        station = state["stations"].setdefault(name, {})
        for role, move in change["moves"].items():
            entry = {"fingerprint_sha256": new["fingerprint_sha256"], "move": move}
            path = self.path_of(name, role)
            path.write_text(new["certificate_pem"] + new["chain_pem"])
            others = [one for one in station.get(role, []) if one["fingerprint_sha256"] != new["fingerprint_sha256"]]
            station[role] = self.install(name, role, entry, others)
            if station[role][0]["state"] == "failed":
                return 422, f"{role}: {station[role][0]['reason']}"
            if station[role][0]["state"] == "stored":
                status = 202
        if not change["partner"] and {"switch", "replace"} & set(change["moves"].values()):
            # For everybody: choices for single partners end.
            state["stations"] = {
                key: one for key, one in state["stations"].items() if not key.startswith(f"{name} to ")
            }
        return status, ""

    def install(
        self, name: str, role: str, entry: dict[str, Any], others: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Run the command for one certificate, and return what the role has then."""
        words = [str(self.path_of(name, role)), role, entry["move"], entry["fingerprint_sha256"]]
        done = subprocess.run([*(self.argv or ["true"]), *words], capture_output=True, text=True, check=False)
        if done.returncode in (0, NOT_YET):
            in_use = done.returncode == 0
            entry = entry | {"state": "in_use" if in_use else "stored"}
            return [entry, *([] if in_use and entry["move"] != "add" else others)]
        return [entry | {"state": "failed", "reason": done.stderr[-200:]}, *others]

    def path_of(self, name: str, role: str) -> Path:
        return self.folder / f"{quote(f'{name} {role}', safe='')}.pem"

    def read_state(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        return json.loads(path.read_text()) if path.exists() else {"stations": {}, "done": {}}

    def write_state(self, state: dict[str, Any]) -> None:
        draft = self.folder / "state.draft"
        draft.write_text(json.dumps(state))
        draft.replace(self.folder / "state.json")

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def name_station(item: dict[str, Any]) -> str:
    """Return the name of a station; for one partner alone, with the partner."""
    side, as2_id, partner = (quote(item.get(name) or "", safe="") for name in ("side", "as2_id", "partner"))
    return f"{side} {as2_id} to {partner}" if partner else f"{side} {as2_id}"


def make_server(port: int, folder: Path, command: list[str]) -> HTTPServer:
    """Return a server on this machine's loopback address."""
    handler = type("BoundReceiver", (Receiver,), {"folder": folder, "argv": command})
    return HTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    make_server(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]).serve_forever()
