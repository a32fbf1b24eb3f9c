"""The worker: two processes that carry out tasks. `celery -A as2certs.celery worker` is the same, with its options.

Celery's command line brings a shell and more, 15 MB in each process that nobody asks for.
"""

from __future__ import annotations

import sys

from as2certs.celery import app

if __name__ == "__main__":
    # Workers need not know of each other: the database knows what is done. So no gossip, no mingling, no heartbeat.
    worker = app.Worker(
        concurrency=2,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    sys.exit(worker.exitcode)
