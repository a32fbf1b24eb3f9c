"""Redis as Celery's broker, in which a worker goes on after an acknowledgement that Redis did not take.

kombu counts a message as in progress until Redis has confirmed its acknowledgement. While Redis hangs, each failed one
would take a place of the worker's prefetch limit for good; once all are taken, it consumes nothing until it is
restarted. See https://github.com/celery/kombu/blob/main/kombu/transport/redis.py, ``QoS.ack``.
"""

from __future__ import annotations

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """Release the place of a message in the prefetch limit also if its acknowledgement fails."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message. Raises the errors of the connection.

        Redis then keeps it as unacknowledged, and delivers it again after an hour, when it has expired.
        """
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)  # does nothing more for a tag that is released already


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel
