"""Test messages that are sent regularly: when, what an answer that is not good leads to, and when it ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.errors import ProbeRefused
from partners.models import Partner, Partnership, Probe
from partners.probes import requests, sending
from rotations.lifecycle.evidence import probes
from rotations.models import Rotation
from rotations.notifications import mail_checks, station_mail
from tests.partners.probes.peer import Peer, import_pair, pair_until, serve_peer
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft

pytestmark = [pytest.mark.django_db, pytest.mark.on_postgres]

DAY = timedelta(days=1)


class World:
    """A connection with a partner that accepts our test messages once it trusts our certificate."""

    def __init__(self) -> None:
        self.company: Company = make_company(connector=None)
        self.partner: Partner = self.company.partners[1]
        self.partner.owners.add(self.company.alice)
        theirs = pair_until("NORTHWIND", 90)
        import_pair(self.partner, theirs)
        Partnership.objects.filter(partner=self.partner).update(allows_probes=True)
        self.peer = Peer(trusted=[], keys=[theirs], signer=theirs)

    @property
    def partnership(self) -> Partnership:
        return Partnership.objects.select_related("identity", "partner").get(partner=self.partner)

    def fails_since(self) -> datetime | None:
        return self.partnership.probes_fail_since

    def trust(self) -> None:
        self.peer.trusted.append((self.company.old.certificate, None))  # type: ignore[arg-type]  # it only verifies

    def run(self, now: datetime) -> int:
        """Queue what is due, send it, and return how many were queued."""
        count = probes.request_regular(now=now)
        while sending.send_next(lambda: now, probes.apply_verdict):
            pass
        return count


@pytest.fixture
def world() -> World:
    return World()


def set_interval(world: World, days: int, now: datetime = NOW) -> None:
    requests.set_interval(world.partnership, days=days, by=world.company.by, now=now)


def test_one_is_sent_each_day_with_the_certificates_in_use(world: World) -> None:
    world.trust()
    with serve_peer(world.peer, world.partner):
        set_interval(world, 1)
        assert [world.run(NOW + hours * timedelta(hours=1)) for hours in (0, 1, 23, 24, 25, 48)] == [1, 0, 0, 1, 0, 1]
    found = Probe.objects.all()
    assert {one.purpose for one in found} == {Probe.Purpose.REGULAR}
    assert {one.signing_certificate for one in found} == {world.company.old}
    assert all(one.is_accepted for one in found)
    assert world.fails_since() is None
    assert station_mail.notify_failing_probes(NOW) == 0


def test_one_that_is_not_accepted_becomes_a_task_and_one_mail_until_one_is_accepted(world: World) -> None:
    home = reverse("home")
    operator = log_in(make_person("olivia", "operator"))
    words = f"{world.partner} does not accept our regular test message"
    with serve_peer(world.peer, world.partner):
        set_interval(world, 1)
        world.run(NOW)
        assert world.fails_since() == NOW
        assert words in operator.get(home).content.decode()
        assert [station_mail.notify_failing_probes(NOW), station_mail.notify_failing_probes(NOW)] == [1, 0]
        mail = Message.objects.get(kind="probe_failing")
        assert mail.subject == f"{world.partner} does not accept our regular test message"
        assert "does not know the new certificate" not in mail.text
        assert Probe.objects.get().sentence in " ".join(mail.text.split())
        assert mail_checks.find_withdrawal(mail, NOW) is None
        world.run(NOW + DAY)
        assert world.fails_since() == NOW, "since the first of them"
        assert station_mail.notify_failing_probes(NOW + DAY) == 0
        world.trust()
        world.run(NOW + 2 * DAY)
    assert world.fails_since() is None
    assert words not in operator.get(home).content.decode()
    withdrawal = mail_checks.find_withdrawal(mail, NOW + 2 * DAY)
    assert withdrawal is not None
    assert "accepted again" in withdrawal.reason


def test_one_that_a_person_sends_with_the_certificates_in_use_ends_the_task_too(world: World) -> None:
    with serve_peer(world.peer, world.partner):
        set_interval(world, 7)
        world.run(NOW)
        world.trust()
        spec = requests.ProbeSpec(world.company.old, Probe.objects.get().encryption_certificate)
        requests.request_probe(world.partnership, spec, by=world.company.by, now=NOW + DAY)
        world.run(NOW + DAY)
    assert world.fails_since() is None


def test_none_is_sent_while_a_change_with_the_partner_is_made(world: World) -> None:
    world.trust()
    draft = make_draft(world.company, starts=NOW + timedelta(minutes=10))
    Rotation.objects.filter(pk=draft.pk).update(state="scheduled")
    with serve_peer(world.peer, world.partner):
        set_interval(world, 1)
        assert world.run(NOW + timedelta(minutes=30)) == 0, "within the window"
        Rotation.objects.filter(pk=draft.pk).update(state="under_way")
        assert world.run(NOW + DAY) == 0
        Rotation.objects.filter(pk=draft.pk).update(state="closed")
        assert world.run(NOW + DAY) == 1


def test_none_is_queued_beside_one_that_is_being_sent(world: World) -> None:
    Partner.objects.filter(pk=world.partner.pk).update(url="http://127.0.0.1:9/")
    set_interval(world, 1)
    assert probes.request_regular(now=NOW) == 1
    assert probes.request_regular(now=NOW + DAY) == 0


def test_without_certificates_the_next_is_tried_after_the_interval(world: World) -> None:
    Partner.objects.filter(pk=world.partner.pk).update(url="http://127.0.0.1:9/")
    world.partner.service.all().delete()
    set_interval(world, 7)
    assert probes.request_regular(now=NOW) == 0
    assert world.partnership.next_probe_at == NOW + 7 * DAY


def test_regular_messages_end_where_they_are_forbidden(world: World) -> None:
    Partner.objects.filter(pk=world.partner.pk).update(url="http://127.0.0.1:9/")
    set_interval(world, 7)
    Partnership.objects.filter(partner=world.partner).update(probes_fail_since=NOW)
    requests.set_allowed(world.partnership, allowed=False, by=world.company.by, now=NOW)
    row = world.partnership
    assert (row.probe_interval_days, row.next_probe_at, row.probes_fail_since) == (0, None, None)
    with pytest.raises(ProbeRefused, match="not allowed"):
        set_interval(world, 1)
    verbs = Entry.objects.filter(verb="partnership.probes_scheduled").order_by("pk")
    assert [entry.new for entry in verbs] == [
        {"regular test messages": "every week"},
        {"regular test messages": "never"},
    ]


def save(client: Client, partnership: Partnership, days: object) -> str:
    url = reverse("partnership-probes-schedule", args=[partnership.uid])
    return client.post(url, {"days": days}, follow=True).content.decode()


def test_the_interval_is_chosen_on_the_page_of_test_messages(world: World) -> None:
    Partner.objects.filter(pk=world.partner.pk).update(url="http://127.0.0.1:9/")
    operator = log_in(make_person("olivia", "operator"))
    assert "is sent every week" in save(operator, world.partnership, 7)
    assert world.partnership.probe_interval_days == 7
    save(operator, world.partnership, 3)
    assert world.partnership.probe_interval_days == 7, "not one of the choices"
    assert "not sent regularly any more" in save(operator, world.partnership, 0)
    assert world.partnership.next_probe_at is None
