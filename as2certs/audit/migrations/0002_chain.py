from django.conf import settings
from django.db import migrations, models

from as2certs.audit import guards

ORIGIN = "0" * 64


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Chain",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("position", models.BigIntegerField(default=0, verbose_name="newest place")),
                ("hash", models.CharField(default=ORIGIN, max_length=64, verbose_name="its hash")),
                ("cut_position", models.BigIntegerField(default=0, verbose_name="removed up to")),
                (
                    "cut_hash",
                    models.CharField(
                        default=ORIGIN, max_length=64, verbose_name="hash of the last one removed"
                    ),
                ),
                ("sealed_at", models.DateTimeField(blank=True, null=True)),
                ("signature", models.CharField(blank=True, default="", max_length=64)),
                (
                    "signed_with",
                    models.CharField(
                        blank=True,
                        default="",
                        max_length=16,
                        verbose_name="fingerprint of the signing key",
                    ),
                ),
            ],
            options={
                "verbose_name": "head of the trail",
                "verbose_name_plural": "head of the trail",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("pk", 1)), name="audit_one_chain")
                ],
            },
        ),
        migrations.AlterModelOptions(
            name="entry",
            options={
                "base_manager_name": "objects",
                "ordering": ["-id"],
                "permissions": [("export_entry", "Can take the trail out as a file")],
                "verbose_name": "entry of the trail",
                "verbose_name_plural": "trail",
            },
        ),
        migrations.AlterModelOptions(name="subject", options={"base_manager_name": "objects"}),
        migrations.AddField(
            model_name="entry",
            name="position",
            field=models.BigIntegerField(blank=True, null=True, verbose_name="place in the chain"),
        ),
        migrations.AddField(
            model_name="entry",
            name="sealed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="entry",
            name="previous",
            field=models.CharField(
                blank=True, default="", max_length=64, verbose_name="hash of the one before"
            ),
        ),
        migrations.AddField(
            model_name="entry",
            name="hash",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="entry",
            name="signature",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="entry",
            name="signed_with",
            field=models.CharField(
                blank=True, default="", max_length=16, verbose_name="fingerprint of the signing key"
            ),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(
                condition=models.Q(("position", None)), fields=["id"], name="audit_entry_unsealed"
            ),
        ),
        migrations.AddConstraint(
            model_name="entry",
            constraint=models.UniqueConstraint(
                condition=models.Q(("position__isnull", False)),
                fields=("position",),
                name="audit_entry_position",
            ),
        ),
        migrations.RunPython(guards.migrate_up, guards.migrate_down),
    ]
