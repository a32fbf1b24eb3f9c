"""A partner's AS2 server on a free loopback port, and a partnership with it whose certificates are in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.test import override_settings

from as2certs import pki
from as2certs.as2 import Headers, Inbound, Signing, receive, reply
from identities.certificates.single_import import import_certificate
from identities.models import Identity, IdentityCertificate
from identities.stations import AbstractStation
from partners.models import Partner, PartnerCertificate, Partnership, Probe
from partners.probes import requests
from tests.as2.server import LOOPBACK, Request, respond, serve
from tests.as2.stations import keys_of
from tests.certificates import Pair, make_pair
from tests.inventory import BY, NOW

Answer = Callable[[Request], None]


@dataclass
class Peer:
    """The partner's server: what it trusts, with what it decrypts and signs, and the messages that it has read."""

    trusted: list[Pair]
    keys: list[Pair]
    signer: Pair
    answer: Answer | None = None
    mdns: list[tuple[Headers, bytes]] = field(default_factory=list)
    """The MDNs that were asked for at another address than the answer."""
    messages: list[Inbound] = field(default_factory=list)
    url: str = ""

    def handle(self, request: Request) -> None:
        inbound = receive(request.headers, request.body, keys_of(*self.keys), [one for one, _ in self.trusted])
        self.messages.append(inbound)
        if self.answer:
            self.answer(request)
            return
        mdn = reply(inbound, Signing(*self.signer), now=NOW)
        assert mdn is not None
        assert inbound.receipt is not None
        if inbound.receipt.delivery_url:
            self.mdns.append(mdn)
            mdn = (Headers(), b"")
        respond(request, *mdn)


@contextmanager
def serve_peer(peer: Peer, partner: Partner) -> Iterator[Peer]:
    """Let the peer answer at the partner's AS2 URL, to which test messages may be sent."""
    with serve(peer.handle) as server, override_settings(AS2CERTS_AS2_NETWORKS=LOOPBACK):
        peer.url = server.url()
        Partner.objects.filter(pk=partner.pk).update(url=peer.url)
        partner.url = peer.url
        yield peer


def import_pair(station: AbstractStation, pair: Pair, *, now: datetime = NOW) -> Any:
    """Import a certificate of a station, of ours with its key; it gets the roles that are free."""
    leaf, key = pair
    ours = isinstance(station, Identity)
    material = pki.Material(leaf=leaf, chain=(), key=key if ours else None, container="pem")
    return import_certificate(station, material, roles=station.ROLES, by=BY, now=now).certificate


def pair_until(name: str, days: int, *, now: datetime = NOW) -> Pair:
    return make_pair(name, not_before=now - timedelta(days=30), not_after=now + timedelta(days=days))


@dataclass
class Stations:
    """An identity and a partner, each with a certificate in use and a new one; the peer has the old ones only."""

    partnership: Partnership
    ours: IdentityCertificate
    ours_new: IdentityCertificate
    theirs: PartnerCertificate
    theirs_new: PartnerCertificate
    pairs: dict[str, Pair]
    peer: Peer

    def request(self, *, is_new: bool = False, to_new: bool = False, asks_async_mdn: bool = False) -> Probe:
        """Queue a test message, signed with the certificate in use or the new one."""
        signing = self.ours_new if is_new else self.ours
        encryption = self.theirs_new if to_new else self.theirs
        spec = requests.ProbeSpec(signing, encryption, asks_async_mdn=asks_async_mdn)
        return requests.request_probe(self.partnership, spec, by=BY, now=NOW)


def make_stations() -> Stations:
    identity = Identity.objects.create(name="ACME", as2_id="ACME-PROD")
    partner = Partner.objects.create(name="Northwind", as2_id="NORTHWIND", url="http://127.0.0.1:9/as2")
    partnership = Partnership.objects.create(identity=identity, partner=partner, allows_probes=True)
    pairs = {
        name: pair_until(name, days)
        for name, days in (("ours", 20), ("ours-new", 700), ("theirs", 60), ("theirs-new", 800))
    }
    return Stations(
        partnership,
        import_pair(identity, pairs["ours"]),
        import_pair(identity, pairs["ours-new"]),
        import_pair(partner, pairs["theirs"]),
        import_pair(partner, pairs["theirs-new"]),
        pairs,
        Peer(trusted=[pairs["ours"]], keys=[pairs["theirs"]], signer=pairs["theirs"]),
    )
