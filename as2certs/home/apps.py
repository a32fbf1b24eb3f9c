from django.apps import AppConfig


class HomeConfig(AppConfig):
    name = "as2certs.home"
    label = "home"

    def ready(self) -> None:
        # Loaded in each process, so that a page that wakes a task does so through our broker.
        from as2certs import celery, checks  # noqa: F401
