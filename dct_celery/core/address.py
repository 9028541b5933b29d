"""What a URL of store or broker means, and which URLs are refused.

redis-py and kombu each read URLs in their own way: a parameter that works in one is ignored by the
other, or ends in a TypeError. So they never get a URL, only what is parsed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix", "redis+socket", "amqp", "amqps")
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_TLS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
_DATABASE = ("db", "virtual_host")
_QUOTED = "; in a user or password, write %23 for #, %2F for /, %3A for :, %3F for ?, %40 for @"
_REQS = {"required": True, "cert_required": True, "none": False, "cert_none": False}


class AddressError(ValueError):
    """The URL cannot be used. The text is a predicate with its fix: "has …; write …"."""


class UnquotedError(AddressError):
    """Where the password ends is unclear: no part of the URL may be shown."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server proves who it is, and we to it.

    Files are named as they were given; empty: the system's own.
    """

    ca_certs: str = ""
    certfile: str = ""
    keyfile: str = ""
    verify: bool = True
    check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and how to get in."""

    kind: Literal["redis", "amqp"]
    host: str
    port: int
    #: Path of a Unix socket; then there is no host.
    path: str = ""
    user: str = ""
    password: str = ""
    database: int = 0
    vhost: str = "/"
    tls: Tls | None = None

    @property
    def insecure(self) -> str:
        """Why TLS proves nothing here; empty where it does, and without TLS."""
        if self.tls is None:
            return ""
        if not self.tls.verify:
            return (
                "any certificate is accepted (ssl_cert_reqs=none), so any host can pose as the"
                " server and learn the password"
            )
        if not self.tls.check_hostname:
            return "the host name is not compared with the certificate (ssl_check_hostname=false)"
        return ""


def parse(url: str) -> Address:
    """Raises AddressError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The reason is left out: it quotes what may be part of the password.
        raise UnquotedError(
            f"is not a URL; write scheme://user:password@host:port/…{_QUOTED}"
        ) from None
    scheme = parts.scheme
    if "://" not in url or scheme not in SCHEMES:
        raise AddressError(
            f"has an unknown scheme; write one of {', '.join(f'{one}://' for one in SCHEMES)}"
        )
    if "#" in url or "@" in parts.path + parts.query:
        raise UnquotedError(f"has a part that URLs of store and broker do not have{_QUOTED}")
    if (
        port == 0
        or ";" in parts.netloc.rpartition("@")[2]
        or "," in parts.netloc.rpartition("@")[2]
    ):
        raise AddressError("does not name one host and port; write host:port of a single server")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    options = _options(parts.query, scheme)
    tls = _tls(options) if scheme in ("rediss", "amqps") else None
    if scheme in ("unix", "redis+socket"):
        if not parts.path.strip("/") or parts.hostname:
            raise AddressError("names no socket; write unix:///path/of/the.sock with three slashes")
        return Address("redis", "", 0, unquote(parts.path), user, password, _database(options, ""))
    host, port = unquote(parts.hostname or "") or "127.0.0.1", port or _PORTS[scheme]
    if scheme in ("amqp", "amqps"):
        vhost = unquote(parts.path[1:]) or "/"
        return Address("amqp", host, port, "", user or "guest", password or "guest", 0, vhost, tls)
    return Address(
        "redis", host, port, "", user, password, _database(options, parts.path), "/", tls
    )


def _options(query: str, scheme: str) -> dict[str, str]:
    known = (_TLS if scheme in ("rediss", "amqps") else ()) + (
        () if scheme.startswith("amqp") else _DATABASE
    )
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in known:
            raise AddressError(f"has the parameter {name}, which {_why_not(name, scheme, known)}")
        if not value:
            raise AddressError(
                f"has the parameter {name} without a value; give it one or leave it out"
            )
    return options


def _why_not(name: str, scheme: str, known: tuple[str, ...]) -> str:
    if name in _TLS:
        return f"needs TLS; write {'amqps' if scheme == 'amqp' else 'rediss'}:// or leave it out"
    there = f"{scheme}:// has {', '.join(known)}" if known else f"{scheme}:// has none"
    return f"is not known; leave it out ({there})"


def _database(options: dict[str, str], path: str) -> int:
    """The number of the database. The path of a Unix socket does not name one."""
    texts = {value for name, value in options.items() if name in _DATABASE} | (
        {path.strip("/")} - {""}
    )
    if len(texts) > 1:
        raise AddressError("names its database twice; leave one out")
    text = texts.pop() if texts else "0"
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise AddressError(f"has the database {text!r}, which is not a number; write /0 at its end")
    return int(text)


def _tls(options: dict[str, str]) -> Tls:
    reqs = options.get("ssl_cert_reqs", "required").lower()
    check = options.get("ssl_check_hostname", "true").lower()
    if reqs not in _REQS:
        raise AddressError(
            f"has ssl_cert_reqs={reqs}; write required, or none, which proves nothing"
        )
    if check not in ("true", "false"):
        raise AddressError(f"has ssl_check_hostname={check}; write true or false")
    certfile, keyfile = options.get("ssl_certfile", ""), options.get("ssl_keyfile", "")
    if keyfile and not certfile:
        raise AddressError(
            "has ssl_keyfile without ssl_certfile; name the certificate of that key as well"
        )
    verify = _REQS[reqs]
    return Tls(
        options.get("ssl_ca_certs", ""), certfile, keyfile, verify, verify and check == "true"
    )
