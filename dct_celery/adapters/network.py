"""First contact with a server: can it be reached, what does it speak, is it the right one?

This comes before any library and before any password is sent: where the two sides only differ about
TLS, redis-py and py-amqp wait for long or say "connection closed". Every step has a limit of its
own; all of them together take six seconds at most.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from dct_celery.core.address import Address, Tls

#: Seconds for a connection.
CONNECT = 4.0
#: Seconds for TLS on it.
HANDSHAKE = 3.0
#: Seconds for the first answer of the server.
ANSWER = 4.0
#: Seconds for finding out which protocol it speaks.
_PROBE = 1.0
#: A command for Redis, a request for HTTP, and a bad header for RabbitMQ, which answers with the
#: one that it wants.
_HELLO = b"PING\r\n\r\n"
_ANSWERS = {
    b"+": "redis",
    b"-": "redis",
    b"AMQP": "amqp",
    b"\x01\x00": "amqp",
    b"\x15\x03": "tls",
    b"HTTP": "http",
}
_NAMES = {"redis": "Redis", "amqp": "RabbitMQ", "http": "a web server"}


class Unreachable(Exception):
    """No server answers; a retry may help."""


class Refused(Exception):
    """A retry cannot help. The text is a predicate that says what is wrong and how to fix it."""


def reach(address: Address) -> None:
    """Proves that a server listens and that its TLS, if asked for, works and is trusted.

    Sends nothing of the protocol. Raises Unreachable and Refused.
    """
    trusted = None if address.tls is None else context(address.tls)
    with _connected(address) as plain:
        if trusted is None:
            return
        plain.settimeout(HANDSHAKE)
        try:
            trusted.wrap_socket(plain, server_hostname=address.host).close()
            return
        except ssl.SSLCertVerificationError as error:
            raise Refused(_distrust(error)) from error
        except (OSError, ValueError) as error:
            failure = error
    explain(address, failure)
    if isinstance(failure, ssl.SSLError):
        raise Refused(tls_failure(failure)) from failure
    raise Unreachable(f"the TLS handshake failed ({failure})") from failure


def explain(address: Address, failure: Exception) -> None:
    """Raises Refused if the server speaks another protocol than its URL says; else returns."""
    spoken = _spoken(address)
    if not spoken:
        return
    tls = {"redis": "rediss", "amqp": "amqps"}[address.kind]
    if spoken == "tls" and address.tls is None:
        raise Refused(f"speaks TLS; write {tls}:// in its URL") from failure
    if spoken == address.kind and address.tls is not None:
        raise Refused(
            f"does not speak TLS at this port; name its port for TLS, or write {address.kind}://"
        ) from failure
    if spoken in _NAMES and spoken != address.kind:
        raise Refused(
            f"is {_NAMES[spoken]} and not {_NAMES[address.kind]}; fix scheme and port of its URL"
        ) from failure


def context(tls: Tls) -> ssl.SSLContext:
    """The TLS context for these parameters. Raises Refused.

    Without a CA of its own it trusts the system's, or those of SSL_CERT_FILE and SSL_CERT_DIR.
    """
    made = ssl.create_default_context()
    made.check_hostname = tls.verify and tls.check_hostname
    if not tls.verify:
        made.verify_mode = ssl.CERT_NONE
    parameter, path = "ssl_ca_certs", tls.ca_certs
    try:
        if tls.ca_certs:
            made.load_verify_locations(tls.ca_certs)
        if tls.certfile:
            parameter, path = "ssl_certfile", tls.certfile
            made.load_cert_chain(tls.certfile, tls.keyfile or None, password="")
    except (OSError, ValueError) as error:
        why = (
            error.strerror
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
            else "no certificate, or no key"
        )
        both = f"{path} and {tls.keyfile}" if parameter == "ssl_certfile" and tls.keyfile else path
        raise Refused(
            f"cannot be reached: {parameter} of its URL names {both} ({why}); fix the path"
        ) from error
    return made


def tls_failure(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return (
            f"refuses TLS ({reason}); it may want a certificate of ours: "
            "ssl_certfile and ssl_keyfile in its URL"
        )
    return f"refuses TLS ({reason}); fix its certificate or its versions of TLS"


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message.strip().rstrip(".")
    if "mismatch" in reason or "doesn't match" in reason or "not valid for" in reason:
        return f"is not trusted: {reason}; name it by a name in its certificate"
    if "expired" in reason or "not yet valid" in reason:
        return f"is not trusted: {reason}; renew its certificate, or set this machine's clock"
    return (
        f"is not trusted: {reason}; name its CA with ?ssl_ca_certs=FILE in its URL, "
        "or with SSL_CERT_FILE"
    )


def _connected(address: Address) -> socket.socket:
    try:
        if not address.path:
            return socket.create_connection((address.host, address.port), CONNECT)
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(CONNECT)
        try:
            made.connect(address.path)
        except BaseException:
            made.close()
            raise
        return made
    except PermissionError as error:
        raise Refused(
            f"cannot be reached: {error.strerror}; fix the permissions of "
            f"{address.path or address.host}"
        ) from error
    except (OSError, UnicodeError) as error:
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else str(error) or "timed out"
        )
        raise Unreachable(why) from error


def _spoken(address: Address) -> str:
    """What the server speaks: redis, amqp, http or tls; empty if none of them."""
    with contextlib.suppress(OSError, Unreachable, Refused), _connected(address) as plain:
        plain.settimeout(_PROBE)
        plain.sendall(_HELLO)
        answer = plain.recv(64)
        for start, name in _ANSWERS.items():
            if answer.startswith(start):
                return name
        if answer:
            return ""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError, ValueError, Unreachable, Refused),
        _connected(address) as plain,
    ):
        plain.settimeout(_PROBE)
        blind.wrap_socket(plain).close()
        return "tls"
    return ""
