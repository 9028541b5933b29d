"""Is a server there, does it speak what its URL says, and is it the one that it claims to be?

Asked before a library is, and before any password is sent: redis-py and py-amqp wait for long, or
say "connection closed", where the two sides only differ about TLS. Every step has a limit of its
own, all of them together about six seconds.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from dct_celery.core.address import Address, Tls

#: Seconds: for a connection, for TLS on it, for the first answer of the server, and for a look at
#: what it speaks.
CONNECT, HANDSHAKE, ANSWER, _LOOK = 4.0, 3.0, 4.0, 1.0
#: A command for Redis, a request for HTTP, and no header for RabbitMQ, which then answers with the
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
    """Nobody answers; a retry may mend it."""


class Refused(Exception):
    """No retry mends it. The text is a predicate with its mend."""


def reach(address: Address) -> None:
    """Proves, without a word of the protocol, that somebody listens and that TLS, if asked for,
    works and is trusted. Raises Unreachable and Refused.
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
    raise Unreachable(f"TLS does not come about ({failure})") from failure


def explain(address: Address, failure: Exception) -> None:
    """Raises Refused if the failure comes from a server that speaks something else than its URL
    says; else returns.
    """
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
            f"is {_NAMES[spoken]} and not {_NAMES[address.kind]}; mend scheme and port of its URL"
        ) from failure


def context(tls: Tls) -> ssl.SSLContext:
    """Without a CA of its own it trusts the system's, or those of SSL_CERT_FILE and SSL_CERT_DIR.
    Raises Refused.
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
            f"cannot be asked: {parameter} of its URL names {both} ({why}); mend the path"
        ) from error
    return made


def tls_failure(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return (
            f"refuses TLS ({reason}); it may want a certificate of ours: ssl_certfile and"
            " ssl_keyfile in its URL"
        )
    return f"refuses TLS ({reason}); mend its certificate or its versions of TLS"


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    reason = error.verify_message.strip().rstrip(".")
    if "mismatch" in reason or "doesn't match" in reason or "not valid for" in reason:
        return f"is not trusted: {reason}; name it by a name in its certificate"
    if "expired" in reason or "not yet valid" in reason:
        return f"is not trusted: {reason}; renew its certificate, or set this machine's clock"
    return (
        f"is not trusted: {reason}; name its CA with ?ssl_ca_certs=FILE in its URL, or with"
        " SSL_CERT_FILE"
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
            f"cannot be reached: {error.strerror}; mend the rights of"
            f" {address.path or address.host}"
        ) from error
    except (OSError, UnicodeError) as error:
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else str(error) or "timed out"
        )
        raise Unreachable(why) from error


def _spoken(address: Address) -> str:
    """redis | amqp | http | tls, or nothing that is known."""
    with contextlib.suppress(OSError, Unreachable, Refused), _connected(address) as plain:
        plain.settimeout(_LOOK)
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
        plain.settimeout(_LOOK)
        blind.wrap_socket(plain).close()
        return "tls"
    return ""
