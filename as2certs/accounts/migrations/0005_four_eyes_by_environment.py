"""Four eyes are a setting of each environment: both begin with what held for all until now."""

from django.db import migrations, models
from django.db.models import F


def carry_over(apps, schema_editor):
    apps.get_model("accounts", "Installation").objects.update(four_eyes_test=F("four_eyes_production"))


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_wants_reminders"),
    ]

    operations = [
        migrations.RenameField("installation", "four_eyes", "four_eyes_production"),
        migrations.AlterField(
            model_name="installation",
            name="four_eyes_production",
            field=models.BooleanField(
                default=False,
                help_text="Whoever set up or changed a rotation of a production station can't approve it.",
                verbose_name="four eyes in production",
            ),
        ),
        migrations.AddField(
            model_name="installation",
            name="four_eyes_test",
            field=models.BooleanField(
                default=False,
                help_text="Whoever set up or changed a rotation of a test station can't approve it.",
                verbose_name="four eyes in test",
            ),
        ),
        migrations.RunPython(carry_over, migrations.RunPython.noop),
    ]
