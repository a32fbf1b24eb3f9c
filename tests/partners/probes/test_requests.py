"""Who may get a test message, and with which certificates."""

from __future__ import annotations

from datetime import timedelta

import pytest

from as2certs.audit.models import Entry
from identities.stations import Environment
from partners.errors import ProbeRefused
from partners.models import Partner, Probe
from partners.probes import requests
from tests.inventory import BY, NOW, add_certificate, make_identity
from tests.partners.probes.peer import Stations, make_stations

pytestmark = pytest.mark.django_db


@pytest.fixture
def stations() -> Stations:
    return make_stations()


def test_in_production_somebody_has_to_allow_test_messages(stations: Stations) -> None:
    requests.set_allowed(stations.partnership, allowed=False, by=BY, now=NOW)
    with pytest.raises(ProbeRefused, match="agree on them with Northwind, then allow them"):
        stations.request()
    requests.set_allowed(stations.partnership, allowed=True, by=BY, now=NOW)
    requests.set_allowed(stations.partnership, allowed=True, by=BY, now=NOW)
    assert stations.request().is_busy
    found = Entry.objects.filter(verb__startswith="partnership.probes").order_by("id")
    assert [entry.verb for entry in found] == ["partnership.probes_forbidden", "partnership.probes_allowed"]


def test_in_test_they_are_always_allowed(stations: Stations) -> None:
    requests.set_allowed(stations.partnership, allowed=False, by=BY, now=NOW)
    stations.partnership.identity.environment = Environment.TEST
    assert requests.find_obstacle(stations.partnership) == ""


@pytest.mark.parametrize(("url", "reason"), [("", "is not known"), ("https://me@h/", "user name or a password")])
def test_an_address_is_needed(stations: Stations, url: str, reason: str) -> None:
    Partner.objects.update(url=url)
    stations.partnership.partner.refresh_from_db()
    with pytest.raises(ProbeRefused, match=reason):
        stations.request()


def test_one_message_with_the_same_certificates_is_on_its_way_at_once(stations: Stations) -> None:
    stations.request()
    with pytest.raises(ProbeRefused, match="wait for its answer"):
        stations.request()
    stations.request(is_new=True)
    assert Probe.objects.count() == 2


def test_certificates_of_other_stations_are_refused(stations: Stations) -> None:
    other = add_certificate(make_identity("OTHER"))
    with pytest.raises(ProbeRefused, match="choose them again"):
        requests.request_probe(stations.partnership, requests.ProbeSpec(other, stations.theirs), by=BY, now=NOW)


def test_a_certificate_without_its_key_cannot_sign(stations: Stations) -> None:
    bare = add_certificate(stations.partnership.identity, name="bare", with_key=False)
    with pytest.raises(ProbeRefused, match="private key"):
        requests.request_probe(stations.partnership, requests.ProbeSpec(bare, stations.theirs), by=BY, now=NOW)


def test_valid_certificates_with_a_key_are_offered_the_one_in_use_first(stations: Stations) -> None:
    add_certificate(stations.partnership.identity, name="bare", with_key=False)
    found = requests.find_choices(stations.partnership, now=NOW)
    assert found.signing == [stations.ours, stations.ours_new]
    assert found.encryption == [stations.theirs, stations.theirs_new]
    later = requests.find_choices(stations.partnership, now=NOW + timedelta(days=70))
    assert (later.signing, later.encryption) == ([stations.ours_new], [stations.theirs_new])


def test_the_certificate_in_use_is_offered_beside_any_number_of_newer_ones(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_OFFERED", 1)
    found = requests.find_choices(stations.partnership, now=NOW)
    assert found.signing == [stations.ours, stations.ours_new]
