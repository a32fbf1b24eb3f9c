"""Settings of a django-pyas2 server, for the folder to which this file is copied.

Without PYAS2["DATA_DIR"]: with Django 5.2, django-pyas2 answers 400 there after it has stored the message.
"""

from pathlib import Path

FOLDER = Path(__file__).parent

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(FOLDER / "db.sqlite3"),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "pyas2"]
MEDIA_ROOT = str(FOLDER / "media")
ROOT_URLCONF = "pyas2.urls"
SECRET_KEY = "of a test"
USE_TZ = True
