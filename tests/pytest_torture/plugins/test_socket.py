import socket

import pytest


@pytest.mark.disable_socket
def test_forbidden():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def test_allowed_again():
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_other_hosts():
    with pytest.raises(RuntimeError, match="A test tried to use socket.socket.connect"):
        socket.create_connection(("10.255.255.1", 9), timeout=0.1)
