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
from as2certs.text_index import contains, filter_by_any
from identities.filters import fingerprint_begins
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
    """Return the results that a person may see, by kind."""
    words = words.strip()
    if not words:
        return []
    named = Q(name__icontains=words)
    kinds: list[tuple[str, str, str, QuerySet[Any]]] = [
        ("Identities", "station", "identities.view_identity", _stations(Identity, words)),
        ("Partners", "station", "partners.view_partner", _stations(Partner, words)),
        (
            "Our certificates",
            "certificate",
            "identities.view_identitycertificate",
            _certificates(IdentityCertificate, words).select_related("identity"),
        ),
        (
            "Partners’ certificates",
            "certificate",
            "partners.view_partnercertificate",
            _certificates(PartnerCertificate, words).select_related("partner"),
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


def _stations(model: type[Identity] | type[Partner], words: str) -> QuerySet[Any]:
    return filter_by_any(model._default_manager.all(), [contains(model, ("name", "as2_id"), words)])


def _certificates(model: type[IdentityCertificate] | type[PartnerCertificate], words: str) -> QuerySet[Any]:
    """Return the certificates with a name, or with a fingerprint or serial number in any spelling."""
    conditions = [contains(model, ("common_name", "subject"), words)]
    for start, end in _fingerprint_parts(words):
        conditions += [
            fingerprint_begins(column, start) & Q(**{f"{column}__endswith": end}) for column in ("sha256", "sha1")
        ]
    if serials := pki.possible_serials(words):
        conditions.append(Q(serial__in=serials))
    return filter_by_any(model.objects.light(), conditions)


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
