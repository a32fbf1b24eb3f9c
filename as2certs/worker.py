"""The Celery worker, with two processes. `celery -A as2certs.celery worker` is equivalent, and takes options.

Celery's command line would import 15 MB more into each process.
"""

from __future__ import annotations

import sys

from as2certs.celery import app

if __name__ == "__main__":
    # Workers coordinate by the database, so they need no gossip, mingle or heartbeat.
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
