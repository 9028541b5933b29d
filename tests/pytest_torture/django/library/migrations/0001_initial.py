import django.db.models.deletion
from django.db import migrations, models


def fill(apps, schema_editor):
    Genre = apps.get_model("library", "Genre")
    for name in ("crime", "poetry"):
        Genre.objects.using(schema_editor.connection.alias).create(name=name)


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Genre",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=50, unique=True)),
            ],
        ),
        migrations.CreateModel(
            "Book",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=100)),
                ("genre", models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="library.genre")),
            ],
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
