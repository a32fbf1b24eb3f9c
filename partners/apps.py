from django.apps import AppConfig
from django.db.models.signals import post_migrate


class PartnersConfig(AppConfig):
    name = "partners"
    verbose_name = "Trading partners"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from as2certs import text_index

        post_migrate.connect(text_index.create_after_migrate, sender=self, dispatch_uid="partners.text_index")
