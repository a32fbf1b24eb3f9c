"""The Celery tasks of rotations. They take no arguments, since the database knows what is due."""

from __future__ import annotations

from celery import shared_task

from as2certs.background import wake_task
from as2certs.clock import database_now
from partners.probes import receiving, sending
from rotations import reminders, runner
from rotations.exchange import bulk, mail_feedback
from rotations.execution import connector_steps
from rotations.lifecycle.evidence import probes


@shared_task(ignore_result=True)
def apply_due() -> None:
    """Carry out the steps that are due, and advance the rotations that waited for something else."""
    runner.tick()


@shared_task(ignore_result=True)
def send_reminders() -> None:
    """Queue all mail that is due: about windows, rotations and expiring certificates."""
    reminders.run(now=database_now())


@shared_task(ignore_result=True)
def send_announcements() -> None:
    """Announce to some of the partners of the bulk announcements that were asked for, and let others have a turn."""
    if bulk.send_next_announcements(now=database_now()):
        wake_task("rotations.tasks.send_announcements")


@shared_task(ignore_result=True)
def send_probes() -> None:
    """Send one of the test messages that were requested or are due after a change, and let others have a turn.

    Where none is due, deliver an MDN that answers a partner's test message.
    """
    probes.request_after_change(now=database_now())
    probes.request_regular(now=database_now())
    if sending.send_next(database_now, probes.apply_verdict) or receiving.deliver_next_mdn(database_now):
        wake_task("rotations.tasks.send_probes")


@shared_task(ignore_result=True)
def repeat_steps() -> None:
    """Notify AS2 systems again of done steps, where somebody has asked for that."""
    while connector_steps.repeat_next(database_now):
        pass


@shared_task(ignore_result=True)
def collect_bounces() -> None:
    """Read the bounce mailbox, if one is configured."""
    mail_feedback.read_mailbox_now()
