"""Celery's door to rotations: argument-free, because the database knows what is due."""

from __future__ import annotations

from celery import shared_task

from as2certs.clock import database_now
from rotations import reminders, runner
from rotations.exchange import mail_feedback
from rotations.execution import transitions
from rotations.lifecycle import drafts


@shared_task(ignore_result=True)
def apply_due() -> None:
    """Carry out the steps that are due, and give waiting rotations their finished successors, or let them go on."""
    runner.apply_due()
    drafts.assign_generated_successors(now=database_now())
    transitions.advance_rehearsed(now=database_now())


@shared_task(ignore_result=True)
def send_reminders() -> None:
    """Queue what people are to be told now: windows that are near, rotations in trouble, certificates that end."""
    reminders.run(now=database_now())


@shared_task(ignore_result=True)
def collect_bounces() -> None:
    """Read the mailbox in which mails come back, where there is one."""
    mail_feedback.read_mailbox_now()
