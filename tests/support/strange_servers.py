"""Servers that do not do what their clients hope for.

Silent, full, of another protocol, of another certificate.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with _listening() as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def dropping() -> Iterator[int]:
    """The port of a host that drops what comes: no connection to it is ever made."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(backlog=0))
        for _ in range(8):  # more than a queue of no length takes
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[int]:
    """The port of a server that answers everything with this text, and closes."""

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(64)
            connection.sendall(text)

    with _served(serve) as port:
        yield port


@contextlib.contextmanager
def trusted_by(certificate: tuple[str, str]) -> Iterator[int]:
    """The port of a server that speaks TLS with this certificate and key, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(connection, server_side=True) as speaking,
        ):
            speaking.recv(64)

    with _served(serve) as port:
        yield port


@contextlib.contextmanager
def _served(serve: object) -> Iterator[int]:
    with _listening() as server:
        server.settimeout(0.1)
        end = threading.Event()

        def loop() -> None:
            while not end.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    connection.settimeout(5)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()  # type: ignore[arg-type]

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        end.set()
        thread.join()


@contextlib.contextmanager
def _listening(backlog: int = 16) -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(backlog)
        yield server
