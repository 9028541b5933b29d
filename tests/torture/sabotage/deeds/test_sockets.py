"""No test may open a socket: the runner's channel is none."""

import socket

from django.test import SimpleTestCase


class Blocked(Exception):
    pass


def block(*args, **kwargs):
    raise Blocked("no network in tests")


class Blocking(SimpleTestCase):
    """Everything is blocked, and nothing is put back before the class ends."""

    @classmethod
    def tearDownClass(cls):
        for name, value in cls.old.items():
            setattr(socket, name, value)
        super().tearDownClass()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        names = ("socket", "create_connection", "getaddrinfo", "gethostbyname", "socketpair")
        cls.old = {name: getattr(socket, name) for name in names}
        for name in names:
            setattr(socket, name, block)

    def test_passes(self):
        """passed"""
        self.assertRaises(Blocked, socket.socket)

    def test_a_connection(self):
        """error: no network in tests"""
        socket.create_connection(("127.0.0.1", 9))

    def test_a_name(self):
        """error: no network in tests"""
        socket.getaddrinfo("localhost", 80)
