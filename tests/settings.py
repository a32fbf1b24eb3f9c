"""The settings with which the tests run in their own process: nothing of the caller's environment gets in."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

for _name in [n for n in os.environ if n.startswith("AS2CERTS_")]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "REDIS_URL", "EMAIL_URL", "SECRET_KEY", "ALLOWED_HOSTS", "DEBUG"):
    os.environ.pop(_name, None)
    os.environ.pop(f"{_name}_FILE", None)
_folder = tempfile.mkdtemp(prefix="as2certs-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["AS2CERTS_VAR"] = _folder
os.environ["SECRET_KEY"] = "only for tests"
os.environ["AS2CERTS_VAULT_KEYS"] = "dGVzdHMgb25seSwgdGhpcyBrZXkgc2VhbHMgbm90aCE="
if "TEST_DATABASE_URL" in os.environ:
    os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]

from as2certs.settings import *  # noqa: E402, F403  # the environment has to be set first

# A name without a hash: nothing is collected for the tests.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CELERY_BROKER_URL = "memory://"
CELERY_BROKER_TRANSPORT = "memory"
CELERY_BROKER_TRANSPORT_OPTIONS = {}
STATIC_ROOT.mkdir()  # noqa: F405  # empty, but there: whitenoise looks for it
