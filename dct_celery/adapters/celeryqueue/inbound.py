"""The door for messages from the broker: chunk messages in the form that `queue` sends, or nothing.

Whoever has the broker's password can put anything into a queue. Celery and kombu expect messages of
their own making: most others end the worker ("Unrecoverable error"), and some well-formed ones do
more than ours ever ask for (a start next year, callbacks, compressed bombs). So every message is
parsed here first. Only its id and its text are kept; the slot then verifies the signature of the
text. Everything else is rebuilt.

Pure except for the log.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
import threading
from collections import Counter
from typing import Any

log = logging.getLogger(__name__)
TASK = "dct_celery.run_chunk"
#: Longest message in bytes; ours have less than one thousand.
LARGEST = 64 * 1024
#: Header of the placeholder for an entry of a Redis list that is no message: what is wrong with it.
REFUSED = "dct-refused"
_ID = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
#: Kinds of refused messages that are counted apart; an attacker could invent ever new names of
#: queues.
_KINDS = 1000


class Unacceptable(ValueError):
    """Not a message of ours. The text says why, and quotes nothing from the sender."""


def admit(
    headers: object, content_type: object, content_encoding: object, body: object
) -> tuple[str, str]:
    """Id and text of a chunk message. Raises Unacceptable."""
    if not isinstance(headers, dict):
        raise Unacceptable("it has no headers")
    if REFUSED in headers:
        raise Unacceptable(ascii(str(headers[REFUSED])[:80])[1:-1])
    if "compression" in headers:
        raise Unacceptable("it is compressed")
    if headers.get("task") != TASK:
        raise Unacceptable("it names no task of ours")
    name = headers.get("id")
    if not isinstance(name, str) or not _ID.match(name):
        raise Unacceptable("it has no id")
    if (content_type, str(content_encoding).lower()) != ("application/json", "utf-8"):
        raise Unacceptable("its content is not JSON in UTF-8")
    return name, _text(body)


def _text(body: object) -> str:
    content = _parsed(_sized(body), "its body")
    arguments = content[0] if isinstance(content, list) and content else None
    if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], str):
        raise Unacceptable("its arguments are not one text")
    if len(content) > 1 and content[1]:
        raise Unacceptable("it has keyword arguments")
    try:
        arguments[0].encode()
    except UnicodeEncodeError:
        raise Unacceptable("its text is not Unicode") from None
    return arguments[0]


def _sized(content: object) -> bytes:
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    if not isinstance(data, bytes | bytearray | memoryview):
        raise Unacceptable("it is empty")
    if len(data) > LARGEST:
        raise Unacceptable(f"it is larger than {LARGEST:,} bytes")
    return bytes(data)


def _parsed(data: bytes, what: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Unacceptable(f"{what} is not JSON") from None


def rewrite(message: Any) -> None:
    """Strips a kombu message of everything but its id and text. Raises Unacceptable."""
    name, text = admit(
        message.headers, message.content_type, message.content_encoding, message.body
    )
    message.headers = {
        "task": TASK,
        "id": name,
        "root_id": name,
        "lang": "py",
        "argsrepr": "(…)",
        "ignore_result": True,
    }
    message.body = body_of(text)
    message._decoded_cache = None  # holds the old content


def body_of(text: str) -> bytes:
    return json.dumps(
        [[text], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    ).encode()


# -- Redis: a message is an entry of a list ------------------------------------------------


def envelope(item: object, queue: str) -> bytes:
    """The entry in a form that kombu can parse.

    This is the same message, or a placeholder that `admit` refuses for the same reason.
    """
    try:
        found = _message_in(item)
    except Unacceptable as refusal:
        found = {
            "headers": {REFUSED: str(refusal)},
            "body": "",
            "properties": {"delivery_tag": "refused"},
        }
    found["properties"] = {
        "delivery_tag": found["properties"]["delivery_tag"],
        "body_encoding": "base64",
        # The queue that it really came from; kombu puts it back there if the worker ends.
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    return json.dumps(found).encode()


def _message_in(item: object) -> dict[str, Any]:
    found = _parsed(_sized(item), "it")
    if not isinstance(found, dict):
        raise Unacceptable("it is not an object")
    headers, properties, body = found.get("headers"), found.get("properties"), found.get("body")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise Unacceptable("it has no headers or properties")
    tag = properties.get("delivery_tag")
    if not isinstance(tag, str) or not tag or not isinstance(body, str):
        raise Unacceptable("it has no delivery tag or body")
    if "compression" in headers:
        raise Unacceptable("it is compressed")
    try:
        base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise Unacceptable("its body is not base64") from None
    kept = ("content-type", "content-encoding")
    return {
        "headers": headers,
        "properties": properties,
        "body": body,
        **{name: found.get(name) for name in kept},
    }


# -- what was refused ----------------------------------------------------------------------


class Refusals:
    """Counts refused messages; logs each kind once, and again at ten times as many."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        return self._counts.total()

    def note(self, queue: str, reason: str) -> None:
        kind = (queue, reason)
        with self._lock:
            if kind not in self._counts and len(self._counts) >= _KINDS:
                kind = ("…", "more kinds than are counted apart")
            self._counts[kind] += 1
            count = self._counts[kind]
        if str(count).strip("0") == "1":
            many = "" if count == 1 else f" ({count:,} so far)"
            log.warning(
                "a message in the queue %s is ignored: %s%s",
                ascii(kind[0][:100]),
                kind[1],
                many,
            )
