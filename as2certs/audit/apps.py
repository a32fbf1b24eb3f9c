from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "as2certs.audit"
    label = "audit"
    verbose_name = "Trail"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from as2certs.audit import triggers

        post_migrate.connect(triggers.create_triggers_after_migrate, sender=self, dispatch_uid="audit.guards")
