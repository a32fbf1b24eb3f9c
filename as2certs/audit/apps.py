from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "as2certs.audit"
    label = "audit"
    verbose_name = "Trail"
    default_auto_field = "django.db.models.BigAutoField"
