from django.db import migrations

NAMES = ["Children", "Fiction", "Poetry", "Science", "Travel"]


def add(apps, schema_editor):
    genres = apps.get_model("catalogue", "Genre")
    genres.objects.bulk_create(genres(name=name) for name in NAMES)


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
