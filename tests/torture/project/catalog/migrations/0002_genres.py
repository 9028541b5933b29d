"""The data migration whose rows tell a pristine database from a flushed one."""

from django.db import migrations

NAMES = ["fiction", "poetry", "science"]


def add(apps, schema_editor):
    genres = apps.get_model("catalog", "Genre")
    genres.objects.using(schema_editor.connection.alias).bulk_create(genres(name=name) for name in NAMES)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
