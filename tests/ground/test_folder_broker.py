"""The folder broker: messages are complete or absent, and an invalid one stops no worker."""

from __future__ import annotations

import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection
from kombu.exceptions import ChannelError

from as2certs.folder_broker import Channel
from tests.servers import wait_until
from tests.stack import Stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def channel(folder: Path) -> Channel:
    """Return a channel of its own, as each process has one."""
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder)}
    connection = Connection(
        "filesystem://localhost", transport="as2certs.folder_broker:Transport", transport_options=options
    )
    opened = connection.channel()
    assert isinstance(opened, Channel)
    return opened


def take_all(channel: Channel) -> list[object]:
    found = []
    while True:
        try:
            found.append(channel._get("celery"))
        except Empty:
            return found


def test_messages_are_taken_once_in_their_order_and_leave_nothing_behind(folder: Path) -> None:
    sender, taker = channel(folder), channel(folder)
    sender._put("celery", {"number": 1})
    sender._put("other", {"number": 2})
    assert take_all(taker) == [{"number": 1}]
    assert taker._get("other") == {"number": 2}
    assert list(folder.iterdir()) == []


def test_a_folder_that_was_removed_is_made_again(folder: Path) -> None:
    queue = folder / "broker" / "queue"
    sender, taker = channel(queue), channel(queue)
    assert sender._size("celery") == 0
    shutil.rmtree(folder / "broker")
    assert take_all(taker) == []
    sender._put("celery", {"number": 1})
    assert take_all(taker) == [{"number": 1}]
    assert stat.S_IMODE(queue.stat().st_mode) == 0o700


def test_a_folder_that_can_not_be_made_is_one_error_of_the_broker(folder: Path) -> None:
    (folder / "broker").touch()
    with pytest.raises(ChannelError, match=r"A message can't be put into .*: Not a directory"):
        channel(folder / "broker" / "queue")._put("celery", {"number": 1})


@pytest.mark.parametrize("text", ["", '{"body": "half of a mes', "\x00\x00\x00"])
def test_an_invalid_message_is_skipped(folder: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "1_broken.celery.msg").write_text(text)
    channel(folder)._put("celery", {"number": 2})
    assert take_all(channel(folder)) == [{"number": 2}]
    assert "can't be read and is left out" in caplog.text
    assert list(folder.iterdir()) == []


def test_messages_are_complete_and_taken_by_one_worker(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    each, senders, takers = 300, 2, 3
    taken: list[object] = []
    done = threading.Event()

    def send(which: int) -> None:
        mine = channel(folder)
        for number in range(each):
            mine._put("celery", {"which": which, "number": number, "filling": "x" * 20_000})

    def take() -> None:
        mine = channel(folder)
        while not done.is_set():
            taken.extend(take_all(mine))

    sending = [threading.Thread(target=send, args=(which,)) for which in range(senders)]
    taking = [threading.Thread(target=take) for _ in range(takers)]
    for thread in (*taking, *sending):
        thread.start()
    for thread in sending:
        thread.join()
    wait_until(lambda: not list(folder.glob("*.msg")), what="the last message")
    done.set()
    for thread in taking:
        thread.join()
    assert len(taken) == each * senders
    assert {(m["which"], m["number"]) for m in taken if isinstance(m, dict)} == {
        (which, number) for which in range(senders) for number in range(each)
    }
    assert caplog.text == ""


@pytest.mark.extended
def test_a_worker_survives_an_empty_message(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    _, worker = stack.start("web", "worker")
    queue = stack.folder / "broker" / "queue"
    (queue / "1_broken.celery.msg").touch()
    wait_until(lambda: "is left out" in worker.log, what="the worker to find it")
    stack.start("beat")
    wait_until(lambda: (stack.get_json("/readyz")["seconds_since_tick"] or 99) < 2, what="a tick after it")
    assert worker.popen.poll() is None


def test_beat_logs_in_one_line_that_the_broker_takes_nothing_and_the_folder_is_made_again(
    make_stack: Callable[..., Stack],
) -> None:
    stack = make_stack()
    broker = stack.folder / "broker"
    (beat,) = stack.start("beat")
    queue = broker / "queue"
    wait_until(lambda: list(queue.glob("*.msg")), what="a message")
    shutil.rmtree(broker)
    wait_until(lambda: queue.exists() and list(queue.glob("*.msg")), what="the folder to be made again")
    assert beat.log == ""
    shutil.rmtree(broker)
    broker.touch()  # nothing can be made in its place
    wait_until(lambda: beat.log, what="the error")
    broker.unlink()
    wait_until(lambda: queue.exists() and list(queue.glob("*.msg")), what="the next message")
    lines = beat.log.splitlines()
    assert len(lines) <= 2, beat.log  # two if a message was just being put when the folder went
    assert all("The broker takes no message" in line for line in lines)
