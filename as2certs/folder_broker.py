"""A Celery broker in a folder, for installations without Redis.

kombu's own file-system transport writes messages where workers read them, and a half-written message ends a worker.
Here, messages are written under another name and renamed.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from pathlib import Path
from queue import Empty
from time import monotonic_ns
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem, virtual
from kombu.utils.json import dumps, loads

log = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """Messages as files: written and taken by renaming, and skipped if they can't be read."""

    # Without fanout, each process keeps its bindings itself, and no file of them is shared.
    supports_fanout = False

    def get_table(self, exchange: str) -> Any:
        """Return the bindings of an exchange made by this process."""
        return virtual.Channel.get_table(self, exchange)

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # as its parent has it
        """Put a message into a queue; make its folder again if it is gone. Raises ChannelError if that fails."""
        folder = Path(self.data_folder_out)
        name = f"{monotonic_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        aside = folder / f"{name}.new"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_text(dumps(payload))
            aside.rename(folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):  # the reason is known already
                aside.unlink()
            raise ChannelError(f"A message can't be put into {folder}: {error.strerror}.") from error

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Take the oldest message from a queue. Raises Empty if there is none."""
        folder = Path(self.data_folder_in)
        for file in sorted(folder.glob(f"*.{queue}.msg")):
            taken = file.with_name(f"{file.name}.taken")
            try:
                file.rename(taken)
            except FileNotFoundError:
                continue  # another worker was first
            try:
                return loads(taken.read_text())
            except ValueError:
                log.warning("A message in %s can't be read and is left out: beat will send another.", folder)
            finally:
                taken.unlink(missing_ok=True)
        raise Empty

    def _size(self, queue: str) -> int:
        """Return the number of messages in a queue; make its folder again if it is gone."""
        Path(self.data_folder_in).mkdir(mode=0o700, parents=True, exist_ok=True)
        return int(super()._size(queue))


class Transport(filesystem.Transport):
    Channel = Channel
