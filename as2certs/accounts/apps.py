from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "as2certs.accounts"
    label = "accounts"
    verbose_name = "People and installation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from as2certs.accounts import login_audit, permissions  # noqa: F401  # trail connects its receivers

        post_migrate.connect(permissions.grant_after_migrate, dispatch_uid="accounts.rights")
