import django.db.models.deletion
from django.db import migrations, models

KEY = ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"))


class Migration(migrations.Migration):
    initial = True
    dependencies = [("contenttypes", "0002_remove_content_type_name")]
    operations = [
        migrations.CreateModel("Genre", [KEY, ("name", models.CharField(max_length=50, unique=True))]),
        migrations.CreateModel(
            "Book",
            [
                KEY,
                ("title", models.CharField(max_length=100)),
                (
                    "genre",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="books", to="catalog.genre"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            "Remark",
            [
                KEY,
                ("object_id", models.BigIntegerField()),
                ("text", models.TextField()),
                (
                    "content_type",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="contenttypes.contenttype"
                    ),
                ),
            ],
        ),
        migrations.CreateModel("Counter", [KEY, ("label", models.CharField(max_length=20))]),
    ]
