"""Connections to the store: explicit time-outs everywhere, and redis-py's errors in our words."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from dct_celery.adapters.redisstore.checks import Checked, judge
from dct_celery.core.redact import redact
from dct_celery.errors import StoreUnavailable

T = TypeVar("T")

#: Seconds. Commands block for at most 2 s, so a reply that takes longer than this is a dead peer.
SOCKET_TIMEOUT = 10
CONNECT_TIMEOUT = 6


def connect(url: str, *, retries: int = 3) -> redis.Redis:
    """A client for `url`. Does not connect yet."""
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_keepalive=True,
        health_check_interval=30,
        protocol=2,
        encoding_errors="surrogatepass",  # test ids hold whatever Python's strings may hold
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=2), retries),
    )


def check(client: redis.Redis, url: str, origin: str) -> Checked:
    """Proves that the store answers and is fit. Raises StoreUnavailable, naming the origin of the URL."""
    with translated(url, origin):
        info = _info(client)
    return judge(info, _where(url, origin))


def now(client: redis.Redis) -> float:
    """Unix seconds by the store's clock. Raises StoreUnavailable."""
    try:
        seconds, microseconds = client.time()
    except redis.RedisError as error:
        raise StoreUnavailable(_in_our_words(error)) from error
    return float(seconds) + float(microseconds) / 1e6


def _info(client: redis.Redis) -> Mapping[str, Any]:
    """Of all sections: before 7.0 INFO takes one name alone. Empty where INFO is forbidden."""
    try:
        info: Any = client.info()
    except redis.ResponseError:
        client.ping()
        return {}
    return dict(info)


def _where(url: str, origin: str) -> str:
    return f"the store at {redact(url)} ({origin})"


@contextlib.contextmanager
def translated(url: str, origin: str) -> Iterator[None]:
    """Errors of redis-py as StoreUnavailable, one line, without the password."""
    where = _where(url, origin)
    try:
        yield
    except redis.AuthenticationError as error:
        raise StoreUnavailable(f"{where} refuses the password: {error}; check user and password in its URL") from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if "auth" in str(error).lower() or "WRONGPASS" in str(error):
            raise StoreUnavailable(f"{where} refuses the password: {error}; check user and password in its URL") from error
        raise StoreUnavailable(
            f"{where} cannot be reached: {redact(str(error))}; start it, set --store, or use --local"
        ) from error
    except redis.RedisError as error:
        raise StoreUnavailable(f"{where} answered: {redact(str(error))}") from error


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
            raise StoreUnavailable(_in_our_words(error)) from error

    return call


def _in_our_words(error: redis.RedisError) -> str:
    # By text: what a script meets comes wrapped into another kind of error before 7.0.
    text = redact(str(error))
    if "OOM command not allowed" in text or isinstance(error, redis.OutOfMemoryError):
        return "the store is out of memory and takes no writes; raise its maxmemory, or end what else fills it"
    if "READONLY" in text or isinstance(error, redis.exceptions.ReadOnlyError):
        return "the store has become a replica and takes no writes; make it the primary again, or name the new one"
    return f"the store does not do its part: {text}"


def script(client: redis.Redis, name: str) -> Any:
    """The named Lua script as a callable(keys=[…], args=[…]); loads itself again after a SCRIPT FLUSH or restart."""
    source = files("dct_celery.adapters.redisstore").joinpath("lua", f"{name}.lua").read_text()
    return client.register_script(source)


def text(value: bytes | str | None) -> str:
    """What Python's strings may hold comes back as it was written; other bytes, which nobody of ours writes, are shown."""
    if not isinstance(value, bytes):
        return value or ""
    try:
        return value.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return value.decode(errors="backslashreplace")
