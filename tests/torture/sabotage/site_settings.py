"""Settings of the sabotage project. SABOTAGE_CLOCK freezes time for the whole process, as a conftest or settings module may."""

import os

SECRET_KEY = "sabotage"
INSTALLED_APPS = []
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

CLOCK = os.environ.get("SABOTAGE_CLOCK")
if CLOCK == "freezegun":
    import freezegun

    freezegun.freeze_time("2012-01-14 12:00").start()
if CLOCK == "time-machine":
    import time_machine

    time_machine.travel(1326542400, tick=False).start()
