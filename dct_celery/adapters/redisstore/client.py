"""Connections to the store: explicit time-outs, and redis-py's errors as our exceptions."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any, NoReturn, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from dct_celery.adapters import network
from dct_celery.adapters.redisstore import rights
from dct_celery.adapters.redisstore.checks import Checked, judge
from dct_celery.core.address import Address, AddressError, Tls, parse
from dct_celery.core.redact import redact
from dct_celery.errors import StoreRefused, StoreUnavailable

T = TypeVar("T")

#: Seconds for one reply. Commands block for at most 2 s, so after this time the peer is dead.
SOCKET_TIMEOUT = 10
CONNECT_TIMEOUT = 6


def connect(url: str, *, retries: int = 3, answer: float = SOCKET_TIMEOUT) -> redis.Redis:
    """A client for `url`, see `connect_to`. Raises StoreRefused for a URL that cannot be used."""
    return connect_to(_address(url), retries=retries, answer=answer)


def connect_to(address: Address, *, retries: int, answer: float) -> redis.Redis:
    """A client that does not connect yet; `answer`: seconds that one reply may take."""
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
        "socket_timeout": answer,
        "health_check_interval": 30,
        "protocol": 2,
        "encoding_errors": "surrogatepass",  # a test id may be any Python string
        "retry": Retry(ExponentialWithJitterBackoff(base=0.1, cap=2), retries),
    }
    if address.path:
        return redis.Redis(unix_socket_path=address.path, **options)
    options |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    return redis.Redis(
        **options, socket_connect_timeout=CONNECT_TIMEOUT, **tls_options(address.tls)
    )


def tls_options(tls: Tls | None) -> dict[str, Any]:
    """redis-py's options for TLS; kombu passes the same ones on."""
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_cert_reqs": "required" if tls.verify else "none",
        "ssl_check_hostname": tls.verify and tls.check_hostname,
        "ssl_ca_certs": tls.ca_certs or None,
        "ssl_certfile": tls.certfile or None,
        "ssl_keyfile": tls.keyfile or None,
    }


def _address(url: str) -> Address:
    try:
        return parse(url)
    except AddressError as error:
        raise StoreRefused(f"the store's URL {redact(url)} {error}") from None


def check(client: redis.Redis, url: str, origin: str) -> Checked:
    """Proves that the store answers, can be used, and lets us do all that we need.

    Raises StoreUnavailable where a retry may help and StoreRefused where none can, with the origin
    of the URL.
    """
    address = _address(url)
    where = f"the store at {redact(url)} ({origin})"
    try:
        network.reach(address)
        with contextlib.closing(connect(url, retries=0, answer=network.ANSWER)) as probe:
            try:
                info = _info(probe)
                rights.prove(probe, rights.STORE)
            except redis.RedisError as error:
                raise_for(error, address)
    except network.Refused as error:
        raise StoreRefused(f"{where} {error}") from error
    except network.Unreachable as error:
        raise StoreUnavailable(
            f"{where} cannot be reached: {redact(str(error))}; "
            "start it, set --store, or use --local"
        ) from error
    checked = judge(info, where)
    if address.insecure:
        return replace(
            checked, warnings=(*checked.warnings, f"{where}: {address.insecure}; {_SECURE}")
        )
    return checked


_SECURE = "name its CA with ssl_ca_certs, and leave that parameter out"


def raise_for(error: redis.RedisError, address: Address) -> NoReturn:
    """Raises an error of the first command as one of `network`; also used for the broker.

    It is Refused where a retry cannot help.
    """
    text = redact(" ".join(str(error).split()))
    if isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in text:
        raise network.Refused(f"refuses a command that we need: {text}; {rights.FIX}") from error
    if any(
        sign in text
        for sign in ("WRONGPASS", "NOAUTH", "AUTH ", "uthentication", "username-password")
    ):
        raise network.Refused(
            f"refuses the password: {text}; check user and password in its URL"
        ) from error
    if "DB index is out of range" in text or "invalid DB index" in text:
        raise network.Refused(
            f"has no database {address.database}; write a lower number at the end of its URL"
        ) from error
    if isinstance(error, redis.exceptions.BusyLoadingError):
        raise network.Unreachable("it is still loading its data") from error
    if isinstance(
        error, redis.exceptions.InvalidResponse | redis.ConnectionError | redis.TimeoutError
    ):
        network.explain(address, error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            raise network.Refused(network.tls_failure(cause)) from error
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, redis.exceptions.InvalidResponse):
        raise network.Refused(
            "does not speak Redis's protocol; fix host and port of its URL"
        ) from error
    raise network.Unreachable(text) from error


def now(client: redis.Redis) -> float:
    """Unix seconds by the store's clock. Raises StoreUnavailable."""
    try:
        seconds, microseconds = client.time()
    except redis.RedisError as error:
        raise StoreUnavailable(_explained(error)) from error
    return float(seconds) + float(microseconds) / 1e6


def _info(client: redis.Redis) -> Mapping[str, Any]:
    """INFO, all sections; empty where it is forbidden. Before 7.0 it takes only one name."""
    try:
        info: Any = client.info()
    except redis.ResponseError:
        client.ping()
        return {}
    return dict(info)


def translating(cls: type[T]) -> type[T]:
    """Class decorator: public methods raise StoreUnavailable in place of redis-py's errors."""
    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, _translated_method(method))
    return cls


def _translated_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except redis.RedisError as error:
            raise StoreUnavailable(_explained(error)) from error

    return call


def _explained(error: redis.RedisError) -> str:
    # By text: before 7.0, errors inside a script come wrapped into another type.
    text = redact(str(error))
    if "OOM command not allowed" in text or isinstance(error, redis.OutOfMemoryError):
        return (
            "the store is out of memory and takes no writes; "
            "raise its maxmemory, or stop what else fills it"
        )
    if "READONLY" in text or isinstance(error, redis.exceptions.ReadOnlyError):
        return (
            "the store has become a replica and takes no writes; "
            "make it the primary again, or name the new one"
        )
    return f"the store returned an error: {text}"


def script(client: redis.Redis, name: str) -> Any:
    """The named Lua script as a callable(keys=[…], args=[…]).

    It loads itself again after a SCRIPT FLUSH or restart.
    """
    source = files("dct_celery.adapters.redisstore").joinpath("lua", f"{name}.lua").read_text()
    return client.register_script(source)


def text(value: Any) -> str:
    """Decodes a reply; any Python string comes back as it was written.

    Bytes that are no string of ours are escaped. Empty for anything but bytes.
    """
    if not isinstance(value, bytes):
        return value if isinstance(value, str) else ""
    try:
        return value.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return value.decode(errors="backslashreplace")
