"""Search by name, AS2 ID, fingerprint or serial number, in any spelling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from as2certs import pki
from as2certs.accounts.models import User
from identities.models import AS2System, Identity, IdentityCertificate
from partners.models import Contact, Partner, PartnerCertificate
from rotations.models import Rotation

MAX_RESULTS = 10
#: Fewer hex digits are not searched for as part of a fingerprint.
MIN_FINGERPRINT_DIGITS = 4


@dataclass(frozen=True)
class SearchGroup:
    """The results of one kind."""

    title: str
    template: str
    rows: Sequence[Any]
    more: bool


def search(words: str, person: User | AnonymousUser) -> list[SearchGroup]:
    """Return the results that a person may see, by kind; one query per kind."""
    words = words.strip()
    if not words:
        return []
    named = Q(name__icontains=words)
    station = named | Q(as2_id__icontains=words)
    certificate = certificate_query(words)
    kinds: list[tuple[str, str, str, QuerySet[Any]]] = [
        ("Identities", "station", "identities.view_identity", Identity.objects.filter(station)),
        ("Partners", "station", "partners.view_partner", Partner.objects.filter(station)),
        (
            "Our certificates",
            "certificate",
            "identities.view_identitycertificate",
            IdentityCertificate.objects.light().filter(certificate).select_related("identity"),
        ),
        (
            "Partners’ certificates",
            "certificate",
            "partners.view_partnercertificate",
            PartnerCertificate.objects.light().filter(certificate).select_related("partner"),
        ),
        (
            "Rotations",
            "rotation",
            "rotations.view_rotation",
            Rotation.objects.filter(Q(identity__name__icontains=words) | Q(partner__name__icontains=words))
            .select_related("identity", "partner")
            .order_by("-id"),
        ),
        (
            "Contacts",
            "contact",
            "partners.view_contact",
            Contact.objects.filter(named | Q(email__icontains=words)).select_related("partner"),
        ),
        ("AS2 systems", "system", "identities.view_as2system", AS2System.objects.filter(named)),
    ]
    groups = []
    for title, template, permission, found in kinds:
        if not person.has_perm(permission):
            continue
        rows = list(found[: MAX_RESULTS + 1])
        if rows:
            groups.append(
                SearchGroup(title, f"home/_found_{template}.html", rows[:MAX_RESULTS], len(rows) > MAX_RESULTS)
            )
    return groups


def certificate_query(words: str) -> Q:
    """Return the query for certificates: by name, and by fingerprint or serial number in any spelling."""
    query = Q(common_name__icontains=words) | Q(subject__icontains=words)
    for start, end in _fingerprint_parts(words):
        query |= Q(sha256__startswith=start, sha256__endswith=end)
        query |= Q(sha1__startswith=start, sha1__endswith=end)
    for serial in pki.possible_serials(words):
        query |= Q(serial=serial)
    return query


def _hex_digits(text: str) -> str | None:
    """Return the hex digits of a text in lower case, or None if it contains more than these and separators."""
    bare = re.sub(r"[\s:\-.]", "", text).lower()
    return bare if re.fullmatch(r"[0-9a-f]*", bare) else None


def _fingerprint_parts(words: str) -> list[tuple[str, str]]:
    """Return prefixes and suffixes of fingerprints to search for: "4A:1F:…:9C" has both."""
    bare = re.sub(r"(?i)^.*(fingerprint|sha-?(256|1))\s*[=:]?\s*", "", words)
    start, dots, end = re.sub(r"\.{3}", "…", bare).partition("…")
    first, last = _hex_digits(start), _hex_digits(end)
    if first is None or last is None or len(first) + len(last) < MIN_FINGERPRINT_DIGITS:
        return []
    return [(first, last if dots else "")]
