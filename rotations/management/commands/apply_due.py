"""Carry out the steps that are due, without a broker."""

from __future__ import annotations

from typing import Any

from as2certs.command_loop import LoopCommand
from rotations import runner


class Command(LoopCommand):
    help = "Carry out the steps of rotations that are due. With --loop, go on until stopped: no broker is needed."
    looks_for = "steps that are due"
    seconds = 1

    def handle(self, *args: Any, **options: Any) -> None:
        if options["loop"]:
            runner.warm_up()
        super().handle(*args, **options)

    def look(self, *, loop: bool) -> str:
        return f"{runner.tick(wait=loop)} steps taken up."
