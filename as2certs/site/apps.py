import gc

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "as2certs.site"
    label = "home"

    def ready(self) -> None:
        # Imported in each process, so that tasks are sent through our broker.
        from as2certs import celery, checks  # noqa: F401

        # This is the last app: all modules are loaded. Scanning them again in each garbage collection would delay
        # requests and steps by a tenth of a second now and then.
        gc.freeze()
