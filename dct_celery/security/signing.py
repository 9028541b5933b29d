"""Keys of a pool, and signatures made with them.

Each purpose (a kind of message, in the context of a pool and perhaps of a run) has a key of its
own, derived by HKDF-SHA256 (RFC 5869), so no signature serves for anything else. A signed text is
one line, `dct4.KEYID.MAC.BODY`; the MAC is HMAC-SHA256 over what the signature is bound to and the
body as it stands, so that nothing has to be parsed to be verified.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from dct_celery.errors import Untrusted

#: Version of signed texts; a text of another version is rejected.
_VERSION = "dct4"
#: Salt of the key derivation.
_SALT = b"dct_celery/4"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that a process knows.

    The first one signs; all are accepted, so that a pool can change its key while it works. Without
    any key (`--insecure`) everything is signed with an empty one: whoever can write to the store is
    trusted. (`--local` makes a key of its own.)
    """

    keys: tuple[str, ...] = ()

    @property
    def secure(self) -> bool:
        return bool(self.keys)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all keys, beginning with the one that signs."""
        return tuple(key_id(key) for key in self.keys or ("",))

    def preferring(self, id_: str) -> Keyring:
        """The same keys, the one of this id first: a run keeps the key that it was begun with."""
        keys = sorted(self.keys, key=lambda key: key_id(key) != id_)
        return Keyring(tuple(keys))

    def each(self) -> list[Keyring]:
        """A keyring that signs with this key, for each of them."""
        return [self.preferring(id_) for id_ in self.ids]

    def secret(self, purpose: Sequence[str]) -> str:
        """A key of its own for this purpose, in hex digits; signs nothing of ours."""
        return _derived(self.keys[0] if self.keys else "", tuple(purpose)).hex()

    def seal(self, purpose: Sequence[str], body: str, bound: Sequence[str | int] = ()) -> str:
        """The signed text. `body` must be ASCII."""
        key = self.keys[0] if self.keys else ""
        return f"{_VERSION}.{key_id(key)}.{_mac(key, tuple(purpose), body, bound)}.{body}"

    def unseal(self, purpose: Sequence[str], text: str, bound: Sequence[str | int] = ()) -> str:
        """The body of a text that was signed for this purpose and bound to the same values.

        Raises Untrusted if it was not signed with a key of ours; the message does not quote the
        text.
        """
        id_, mac, body = _parts(text)
        key = next((key for key in self.keys or ("",) if key_id(key) == id_), None)
        if key is None:
            raise Untrusted("is signed with another key")
        expected = _mac(key, tuple(purpose), body, bound)
        if not hmac.compare_digest(mac.encode(errors="replace"), expected.encode()):
            raise Untrusted("has a wrong signature")
        return body


def signed_by(text: str) -> str:
    """The id of the key that a text claims to be signed with; empty if it is not signed."""
    try:
        return _parts(text)[0][:12]
    except Untrusted:
        return ""


def signature_of(text: str) -> str:
    """The signature of a signed text."""
    return _parts(text)[1]


def body_of(text: str) -> str:
    """The body of a signed text, unverified. Raises Untrusted."""
    return _parts(text)[2]


def _parts(text: str) -> tuple[str, str, str]:
    version, _, rest = text.partition(".")
    id_, _, rest = rest.partition(".")
    mac, dot, body = rest.partition(".")
    if version != _VERSION or not dot:
        raise Untrusted("is not signed")
    return id_, mac, body


@functools.lru_cache(64)
def key_id(key: str) -> str:
    """Twelve hex digits that show whether two keys differ, without revealing them."""
    return hashlib.sha256(f"dct-key-id:{key}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _mac(key: str, purpose: tuple[str, ...], body: str, bound: Sequence[str | int]) -> str:
    # JSON on one line: the boundary between list and body is unambiguous.
    text = f"{json.dumps(list(bound))}\n{body}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(_derived(key, purpose), text, "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@functools.lru_cache(1024)
def _derived(key: str, purpose: tuple[str, ...]) -> bytes:
    """HKDF-SHA256 with one block of output."""
    extracted = hmac.digest(_SALT, key.encode("utf-8", "surrogatepass"), "sha256")
    info = json.dumps(list(purpose)).encode()
    return hmac.digest(extracted, info + b"\x01", "sha256")
