"""What a test may rely on in the process it runs in: folder, filters, environment, temp files, faulthandler, tags."""

import faulthandler
import gc
import os
import signal
import sys
import tempfile
import threading
import unittest
import warnings
from pathlib import Path

from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.test import SimpleTestCase, override_settings, tag
from django.utils import timezone, translation


class FolderTests(SimpleTestCase):
    def test_file_relative_to_the_working_directory(self):
        self.assertEqual(Path("data/greeting.txt").read_text(encoding="utf-8"), "grüße aus der datei\n")

    def test_file_relative_to_the_module(self):
        self.assertTrue((Path(__file__).parent.parent / "data" / "greeting.txt").exists())

    def test_working_directory_is_base_dir(self):
        self.assertEqual(Path.cwd().resolve(), settings.BASE_DIR)

    def test_manage_py_is_there(self):
        self.assertTrue(Path("manage.py").is_file())

    def test_working_directory_can_be_written(self):
        path = Path(f"scratch-{os.getpid()}.tmp")
        try:
            path.write_text("x")
            self.assertEqual(path.read_text(), "x")
        finally:
            path.unlink(missing_ok=True)

    def test_temp_directory_can_be_written(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x")

    def test_media_files(self):
        with tempfile.TemporaryDirectory() as folder, override_settings(MEDIA_ROOT=folder):
            storage = FileSystemStorage(location=folder)
            self.assertEqual(storage.save("a.txt", ContentFile(b"x")), "a.txt")


class ProcessTests(SimpleTestCase):
    def test_no_celery_variables(self):
        """A worker's broker must not leak into the project under test."""
        self.assertEqual([name for name in os.environ if name.startswith("CELERY_")], [])

    def test_settings_module(self):
        self.assertEqual(os.environ["DJANGO_SETTINGS_MODULE"].split(".")[0], "torture")

    def test_garbage_collector_knows_what_imports_have_made(self):
        self.assertTrue(any(one is ProcessTests for one in gc.get_objects()))

    def test_faulthandler_is_on(self):
        self.assertTrue(faulthandler.is_enabled())

    def test_main_thread(self):
        self.assertIs(threading.current_thread(), threading.main_thread())

    def test_alarm_signals_work(self):
        old = signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, old)

    def test_warning_filters_are_those_of_the_interpreter(self):
        """Python ignores this warning; unittest.main would show it, but Django's runner does not go that way."""
        if sys.warnoptions:
            self.skipTest("-W is given")
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn_explicit("old", DeprecationWarning, "library.py", 1, module="library", registry={})
        self.assertEqual(caught, [])

    def test_recursion_limit(self):
        self.assertEqual(sys.getrecursionlimit(), 1000)


class WarningTests(SimpleTestCase):
    def test_warns(self):
        warnings.warn("a warning \x00 <x>", UserWarning, stacklevel=1)

    def test_warns_deprecation(self):
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    def test_assert_warns(self):
        with self.assertWarns(UserWarning):
            warnings.warn("expected", UserWarning, stacklevel=1)

    def test_assert_no_logs_fails(self):
        import logging

        with self.assertNoLogs("torture"):
            logging.getLogger("torture").error("logged")


class DjangoEnvironmentTests(SimpleTestCase):
    def test_mail_goes_to_the_outbox(self):
        mail.send_mail("subject", "body", "a@example.org", ["b@example.org"])
        self.assertEqual(len(mail.outbox), 1)

    def test_outbox_is_fresh(self):
        self.assertEqual(mail.outbox, [])

    def test_allowed_hosts(self):
        self.assertIn("testserver", settings.ALLOWED_HOSTS)

    def test_local_cache(self):
        cache.set("key", "value")
        self.addCleanup(cache.clear)
        self.assertEqual(cache.get("key"), "value")

    def test_language_and_time_zone(self):
        self.assertEqual((translation.get_language(), timezone.get_current_timezone_name()), ("en-us", "America/Chicago"))


@tag("slow", "blue")
class TaggedTests(SimpleTestCase):
    def test_class_tag_only(self):
        pass

    @tag("red")
    def test_class_and_method_tag(self):
        self.fail("red")


class PartlyTaggedTests(unittest.TestCase):
    @tag("red")
    def test_red(self):
        pass

    def test_untagged(self):
        pass
