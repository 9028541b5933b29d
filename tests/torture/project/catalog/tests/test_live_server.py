"""Live servers: a free port, a fixed port used by two classes, requests from several threads, async views."""

import http.client
import os
import socket
import threading
import time
from urllib.request import urlopen

from django.test import LiveServerTestCase, TransactionTestCase

from catalog.models import Genre

FIXED_PORT = int(os.environ.get("TORTURE_FIXED_PORT", "18713"))


def get(case, path):
    with urlopen(case.live_server_url + path, timeout=20) as answer:
        return answer.read().decode()


class LiveServerTests(LiveServerTestCase):
    def test_server_sees_rows_of_the_test(self):
        Genre.objects.create(name="live")
        self.assertIn("live", get(self, "/genres/"))

    def test_test_sees_rows_of_the_server(self):
        get(self, "/genres/add/by-server/")
        self.assertTrue(Genre.objects.filter(name="by-server").exists())

    def test_async_view(self):
        self.assertIn("Python-urllib", get(self, "/whoami/"))

    def test_requests_from_several_threads(self):
        answers, threads = [], []
        for number in range(4):
            threads.append(threading.Thread(target=lambda n=number: answers.append(get(self, f"/genres/add/t{n}/"))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(answers), 4)
        self.assertEqual(Genre.objects.filter(name__startswith="t").count(), 4)

    def test_server_error_fails_the_request_only(self):
        with self.assertRaisesMessage(OSError, "404"):
            get(self, "/no-such-page/")


class FixedPortLiveServer(LiveServerTestCase):
    """Two classes on one port cannot run at the same time on one host."""

    port = FIXED_PORT

    @classmethod
    def setUpClass(cls):
        # Cleanups run last in, first out: this one comes after the server's end.
        cls.addClassCleanup(_wait_until_free, cls.host, cls.port)
        super().setUpClass()

    def ask(self, path):
        # The client closes first, so no TIME_WAIT keeps the next server from binding.
        connection = http.client.HTTPConnection("localhost", self.port, timeout=20)
        connection.request("GET", path)
        body = connection.getresponse().read().decode()
        connection.close()
        return body


def _wait_until_free(host, port):
    for _ in range(100):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                time.sleep(0.02)
            else:
                return


class FixedPortTests(FixedPortLiveServer):
    def test_port(self):
        self.assertTrue(self.live_server_url.endswith(f":{FIXED_PORT}"))

    def test_request(self):
        Genre.objects.create(name="fixed")
        self.assertIn("fixed", self.ask("/genres/"))


class MoreFixedPortTests(FixedPortLiveServer):
    def test_request(self):
        Genre.objects.create(name="fixed-too")
        self.assertIn("fixed-too", self.ask("/genres/"))


class ThreadTests(TransactionTestCase):
    def test_another_thread_sees_committed_rows(self):
        Genre.objects.create(name="committed")
        seen = []

        def look():
            from django.db import connection

            seen.extend(Genre.objects.values_list("name", flat=True))
            connection.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        self.assertIn("committed", seen)
