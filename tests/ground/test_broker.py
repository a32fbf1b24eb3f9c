"""A broker that hangs or is down delays a page by at most two seconds, and no work is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from kombu import Connection, Message, Queue

from tests.servers import Postgres, Redis, wait_until
from tests.stack import Stack


@pytest.fixture
def stack(make_stack: Callable[..., Stack], postgres: Postgres, redis_server: Redis) -> Stack:
    return make_stack(postgres=postgres, redis_url=redis_server.url)


def seconds_to_wake_a_task(stack: Stack) -> float:
    """Return how long a page would be held up that wakes a background task."""
    seconds = stack.python(
        "import time\n"
        "from as2certs.background import wake_task\n"
        "start = time.monotonic()\n"
        "wake_task('rotations.tasks.apply_due')\n"
        "print(time.monotonic() - start)\n"
    )
    assert isinstance(seconds, float)
    return seconds


def seconds_since_tick(stack: Stack) -> float:
    """Return how long ago somebody looked for due steps; a large number when nobody ever did."""
    seconds = stack.get_json("/readyz")["seconds_since_tick"]
    return 1e9 if seconds is None else float(seconds)


def test_waking_a_task_takes_less_than_two_seconds_while_redis_hangs(stack: Stack, redis_server: Redis) -> None:
    redis_server.pause()
    try:
        assert seconds_to_wake_a_task(stack) < 2
    finally:
        redis_server.resume()


def test_waking_a_task_fails_at_once_while_redis_is_down(stack: Stack, redis_server: Redis) -> None:
    redis_server.kill()
    try:
        assert seconds_to_wake_a_task(stack) < 2
    finally:
        redis_server.start()


def test_no_page_waits_two_seconds_while_redis_hangs(stack: Stack, redis_server: Redis) -> None:
    stack.start("web")
    redis_server.pause()
    try:
        start = time.monotonic()
        status, text = stack.get("/readyz", timeout=5)
        assert time.monotonic() - start < 2
        assert (status, "broker: does not answer" in text) == (503, True)
        start = time.monotonic()
        assert stack.get("/healthz")[0] == 200
        assert time.monotonic() - start < 1
    finally:
        redis_server.resume()


def test_worker_and_beat_tick_on_through_quiet_and_hanging_and_killed_redis(stack: Stack, redis_server: Redis) -> None:
    _, worker, _ = stack.start("web", "worker", "beat")
    wait_until(lambda: seconds_since_tick(stack) < 2, what="a first tick")
    assert stack.get("/readyz")[0] == 200
    redis_server.pause()
    time.sleep(5)
    redis_server.resume()
    wait_until(lambda: seconds_since_tick(stack) < 2, seconds=60, what="a tick after Redis hung")
    redis_server.kill()
    time.sleep(2)
    redis_server.start()
    wait_until(lambda: seconds_since_tick(stack) < 2, seconds=60, what="a tick after Redis was emptied")
    assert worker.popen.poll() is None


def test_a_worker_consumes_on_after_an_acknowledgement_failed(redis_server: Redis) -> None:
    options = {"socket_timeout": 0.5, "max_retries": 0}
    transport = "as2certs.redis_broker:Transport"
    with Connection(redis_server.url, transport=transport, transport_options=options) as connection:
        received: list[Message] = []
        producer = connection.Producer(routing_key="of this test")
        consumer = connection.Consumer([Queue("of this test")], on_message=received.append, prefetch_count=1)
        with consumer:
            producer.publish("first")
            connection.drain_events(timeout=5)
            redis_server.pause()
            with pytest.raises(connection.connection_errors):
                received[0].ack()
            redis_server.resume()
            producer.publish("second")
            connection.drain_events(timeout=5)
    assert [message.payload for message in received] == ["first", "second"]


def test_the_loop_ticks_without_redis(stack: Stack, redis_server: Redis) -> None:
    redis_server.kill()
    try:
        stack.start("web", "loop")
        wait_until(lambda: seconds_since_tick(stack) < 2, what="a tick of the loop")
    finally:
        redis_server.start()
