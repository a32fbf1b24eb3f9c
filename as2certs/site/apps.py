import gc

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "as2certs.site"
    label = "home"

    def ready(self) -> None:
        # Loaded in each process, so that a page that wakes a task does so through our broker.
        from as2certs import celery, checks  # noqa: F401

        # The last app: what is loaded by now stays. Going through all of it for what may go would hold up a page, or a
        # step, for a tenth of a second now and then.
        gc.freeze()
