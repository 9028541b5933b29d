"""One row on `other`."""

from django.db import migrations


def add(apps, schema_editor):
    apps.get_model("ledger", "Line").objects.using(schema_editor.connection.alias).create(text="opening balance")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
