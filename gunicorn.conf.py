"""The configuration of gunicorn; HOST, PORT and WEB_CONCURRENCY (its processes) come from the environment."""

import gc
import io
import os
import sys
from importlib import import_module

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "as2certs.settings")
try:
    assert settings.INSTALLED_APPS  # loads the settings, so that an error is one line
except ImproperlyConfigured as error:
    sys.exit(f"as2certs: {error}")

bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{os.environ.get('PORT') or 8000}"
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)
worker_class = "gthread"
threads = 4
timeout = 60
graceful_timeout = 4  # the supervisor kills after five seconds
control_socket_disable = True  # not used
# By default, any program on this machine sets SCRIPT_NAME, with which every link begins, and X-Forwarded-Proto.
forwarder_headers = ""
forwarded_allow_ips = ",".join(str(network) for network in settings.AS2CERTS_PROXIES)
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
loglevel = "warning"
# gunicorn logs URLs, which may contain the token of a partner.
logconfig_dict = {
    "root": {"level": "WARNING", "handlers": []},
    "loggers": {
        "gunicorn.error": {"level": "WARNING", "handlers": ["error_console"], "propagate": False},
        "gunicorn.access": {"level": "WARNING", "handlers": [], "propagate": False},
    },
    "formatters": {
        "generic": {
            "()": "as2certs.logs.OneLineFormatter",
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
        }
    },
}


def on_starting(server: object) -> None:
    """Refuse to start with a vault that can't unseal the stored keys, before a page needs them."""
    django.setup()
    try:
        call_command("check", databases=["default"], stdout=io.StringIO())
    except SystemCheckError as error:
        sys.exit(f"as2certs: {error}")
    connections.close_all()  # the workers open their own
    for name in ("second_factor_views", "sign_on_views"):  # only needed by this process
        import_module(f"as2certs.accounts.{name}")
    gc.collect()
    gc.freeze()  # the workers share this memory: a collection would write to, and so copy, all of it


def when_ready(server: object) -> None:
    """Print the URL."""
    print(f"AS2 Certs is ready: {settings.AS2CERTS_BASE_URL}", flush=True)
