"""How gunicorn serves the application. HOST, PORT and WEB_CONCURRENCY (its processes) come from the environment."""

import os
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")
try:
    assert settings.INSTALLED_APPS  # reads the settings here, where an error can still be one line
except ImproperlyConfigured as error:
    sys.exit(f"as2certs: {error}")

bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{os.environ.get('PORT') or 8000}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 4  # honcho kills after five seconds
control_socket_disable = True  # nobody steers it from outside
loglevel = "warning"


def when_ready(server: object) -> None:
    """Say where the pages are."""
    print(f"AS2 Certs is ready: {settings.AS2CERTS_BASE_URL}", flush=True)
