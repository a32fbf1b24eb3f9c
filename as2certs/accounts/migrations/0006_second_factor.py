from django.core.management import call_command
from django.db import migrations, models


def make_cache_table(apps, schema_editor):
    """Make the table of what is soon forgotten, which is no model."""
    call_command("createcachetable", database=schema_editor.connection.alias, verbosity=0)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_four_eyes_by_environment"),
    ]

    operations = [
        migrations.AddField(
            model_name="installation",
            name="second_factor",
            field=models.CharField(
                choices=[
                    ("optional", "whoever wants to"),
                    ("required", "everybody who logs in with a password"),
                ],
                default="optional",
                help_text="Who has to show more than a password.",
                max_length=8,
            ),
        ),
        migrations.RunPython(make_cache_table, migrations.RunPython.noop),
    ]
