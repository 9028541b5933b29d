"""Secrets in text: masked by value, as far as this process knows them, and by what stands around
them. Pure but for `PROCESS`.

Everything that leaves a process of ours goes through a `Masker`: terminal, logs, reports, journal,
error lines. It comes before encoding, so that it can break neither JSON nor XML, and before
cutting, so that no half of a secret is left over.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from dct_celery.core.redact import MASK, redact
from dct_celery.core.text import visible

#: A value of at least so many characters is masked wherever it stands; one of at least _SHORTEST
#: only as a whole word; a shorter one, and one of digits alone, only where a pattern finds it. Else
#: outputs would be full of holes.
ANYWHERE, _SHORTEST = 8, 4
#: Least characters of one line of a secret of several lines (a PEM key) that is masked by itself.
_LINE = 16
#: Passwords of throw-away servers that are words of every other output as well.
COMMON = frozenset(
    {"admin", "changeme", "default", "development", "django", "dummy", "example", "false", "guest", "insecure", "letmein",
     "local", "localhost", "mariadb", "mysql", "none", "null", "pass", "password", "postgres", "postgresql", "production",
     "public", "rabbitmq", "redis", "root", "sample", "secret", "sqlite", "test", "tester", "testing", "tests", "token",
     "true", "user", "username", "valkey"}
)  # fmt: skip
#: Keys of records whose strings are texts of tests or of workers; all others are words of the
#: protocol or names.
_TEXTS = frozenset({"text", "message", "output", "sql", "reason", "detail", "cause", "what"})

# -- patterns --------------------------------------------------------------------------

#: Names that hold a secret, by a whole word of theirs: "DB_PASSWORD", "apiKey", "key", but not
#: "KeyError" or "monkey".
_NAME = (
    r"(?:(?<!com)(?<!by)pass|password|passwd|passphrase|pwd|secret|token|credential|(?:api|access|secret|private|signing)[_-]?key|(?<![a-z])key)"
    r"(?:s|[_-][\w-]{1,40})?(?![\w-])"
)
_QUOTED = r"""[bruf]{0,2}(?P<quote>\\?["'])(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)"""
#: Punctuation that ends a bare value belongs to what stands around it.
_BARE = r"""[^\s&"'][^\s&]*?(?=["')\]}>,;]{0,8}(?:[\s&]|\Z))"""
_HARMLESS_VALUE = r"(?:True|False|None|null|[\[({])"
#: Each match of a pattern has one of these in its first line.
_WORDS = ("pass", "pwd", "secret", "token", "credential", "key", "identified", "mysql", "mariadb")
_PATTERNS = (
    # `name=value`; `name: value` where one of them is quoted, as in JSON and Python
    re.compile(
        rf"""(?P<keep>{_NAME}(?:\s{{0,4}}=>?\s{{0,4}}|\\?["']\s{{0,4}}:\s{{0,4}}))(?!{_HARMLESS_VALUE})(?:{_QUOTED}|{_BARE})"""
        rf"""|(?P<keep2>{_NAME}\s{{0,4}}:\s{{0,4}}){_QUOTED.replace("quote", "quote2")}""",
        re.IGNORECASE,
    ),
    # a line of YAML
    re.compile(
        rf"(?im)^(?P<keep>[ \t]{{0,40}}(?:-[ ])?[\w-]{{0,40}}?{_NAME}:["
        rf" ]{{1,4}})(?!{_HARMLESS_VALUE})\S[^\n]*$"
    ),
    # `PASSWORD 'hush'` and `IDENTIFIED BY 'hush'` of SQL
    re.compile(rf"(?i)(?P<keep>\b(?:password|identified\s+by(?:\s+password)?)\s{{1,4}}){_QUOTED}"),
    # `mysql -phush`
    re.compile(r"(?P<keep>\b(?:mysql|mariadb)[\w-]{0,20}[^\n]{0,400}?\s-p)(?![\s-])\S+"),
)


def mask_patterns(text: str) -> str:
    """The text with every secret that can be recognised replaced by `**`: passwords of URLs, of
    libpq and MySQL, and the values of names that hold pass, secret, token or key. Masking twice is
    masking once.
    """
    return redact("\n".join(_masked_lines(text)))


def _masked_lines(text: str) -> Iterator[str]:
    """Only lines that have one of the words, each with the next one, are searched: the patterns are
    slow.
    """
    lines, lower = text.split("\n"), text.lower().split("\n")
    hot = [any(word in line for word in _WORDS) for line in lower]
    near = (is_hot or before for is_hot, before in zip(hot, [False, *hot], strict=False))
    for wanted, group in itertools.groupby(zip(near, lines, strict=True), key=lambda pair: pair[0]):
        part = "\n".join(line for _, line in group)
        for pattern in _PATTERNS if wanted else ():
            part = pattern.sub(_masked, part)
        yield part


def _masked(match: re.Match[str]) -> str:
    groups = match.groupdict("")
    quote_ = groups.get("quote", "") + groups.get("quote2", "")
    return f"{groups['keep']}{groups.get('keep2', '')}{quote_}{MASK}{quote_}"


# -- values ----------------------------------------------------------------------------


class Masker:
    """Masks the secrets that it was given, and what looks like one. `PROCESS` is the one of this
    process.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        #: Longest first: a secret that begins with another one goes as a whole. None: it goes
        #: wherever it stands.
        self._words: dict[str, re.Pattern[str] | None] = {}
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """From now on these are masked as well."""
        words = {*self._words, *(form for value in values for form in _forms(value))}
        longest = sorted(words, key=lambda word: (-len(word), word))
        self._words = {
            word: _whole_word(word) if len(word) < ANYWHERE else None for word in longest
        }

    def values(self, text: str) -> str:
        """The text without the known secrets: for what a test printed, and for names."""
        before = ""
        # A mask may complete a secret that has asterisks; each round makes the text shorter.
        while text != before:
            before = text
            # Looking for a word is far faster than any pattern, and nearly no text has one.
            for word, pattern in self._words.items():
                if word in text:
                    text = text.replace(word, MASK) if pattern is None else pattern.sub(MASK, text)
        return text

    def output(self, text: str) -> str:
        """What a test printed: known secrets and passwords in URLs; `password: 'x'` may be what the
        test is about.
        """
        return self.values(redact(self.values(text)))

    def __call__(self, text: str) -> str:
        """The text without known secrets and without what looks like one."""
        return self.values(mask_patterns(self.values(text))) if text else text

    def texts(self, data: Any) -> Any:
        """Decoded JSON with the texts of tests and workers in it masked as outputs; words of the
        protocol and names stay.
        """
        if isinstance(data, dict):
            return {
                name: (
                    self.output(value)
                    if name in _TEXTS and isinstance(value, str)
                    else self.texts(value)
                )
                for name, value in data.items()
            }
        return [self.texts(item) for item in data] if isinstance(data, list | tuple) else data

    def everything(self, data: Any) -> Any:
        """Plain data with every string in it masked, for output as JSON; keys stay."""
        if isinstance(data, dict):
            return {name: self.everything(value) for name, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.everything(item) for item in data]
        return self(data) if isinstance(data, str) else data


#: Knows the secrets of this process. `settings.load` teaches it those of the settings and of the
#: environment, the dispatcher those of the project's databases.
PROCESS = Masker()


def _whole_word(word: str) -> re.Pattern[str]:
    # What stands before it is looked at last, so that the search can begin with its letters.
    return re.compile(rf"{re.escape(word)}(?<!\w{re.escape(word)})(?!\w)")


def _forms(value: str) -> Iterator[str]:
    """The value as it may stand in text: as it is, percent-encoded and decoded, and between the
    quotes of JSON or Python.
    """
    value = value.strip()
    plain = {
        value,
        unquote(value, errors="surrogateescape"),
        unquote_plus(value, errors="surrogateescape"),
    }
    plain |= {
        line.strip()
        for line in value.splitlines()
        if len(line.strip()) >= _LINE and not line.startswith("-----")
    }
    for one in plain:
        if is_secret(one):
            raw = one.encode(errors="surrogatepass")
            encoded = (quote(raw, safe=""), quote(raw), quote_plus(raw))
            lower = (
                re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in encoded
            )
            yield from {
                one,
                *encoded,
                *lower,
                json.dumps(one)[1:-1],
                json.dumps(one, ensure_ascii=False)[1:-1],
                repr(one)[1:-1],
            }


def is_secret(value: str) -> bool:
    """Whether the value may be masked wherever it stands: long enough, and no word of everybody's."""
    short = len(value) < _SHORTEST or (len(value) < ANYWHERE and value.isdecimal())
    return not short and value.lower() not in COMMON and bool(value.strip("*"))


# -- where values come from ------------------------------------------------------------

_SECRET_WORDS = frozenset(
    {
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PASS",
        "PWD",
        "SECRET",
        "TOKEN",
        "KEY",
        "CREDENTIAL",
        "DSN",
    }
)
#: They say where something is, not what it is.
_PLACES = frozenset(
    {"FILE", "PATH", "DIR", "FOLDER", "NAME", "HOST", "PORT", "TYPE", "TTL", "TIMEOUT", "COMMAND"}
)


def names_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: DB_PASSWORD, PGPASSWORD, API_KEYS, but
    neither KEY_FILE nor PWD.
    """
    words = name.upper().replace("-", "_").split("_")
    if name.upper() in ("PWD", "OLDPWD") or words[-1] in _PLACES:
        return False
    return any(
        word.removesuffix("S") in _SECRET_WORDS or word.endswith("PASSWORD") for word in words
    )


def secrets_of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Values of variables that are named like a secret, and passwords of all URLs."""
    for name, value in environ.items():
        if names_secret(name) and "://" not in value:
            yield value
        yield from secrets_of_url(value)


def secrets_of_url(url: str) -> Iterator[str]:
    """The password of a URL; nothing for other text. One that equals its user is no secret."""
    if "://" not in url:
        return
    rest = url.partition("://")[2]
    # Unquoted "/", "#", "?" and "@" in a password mislead urlsplit: what stands before the last "@"
    # counts as well.
    user, _, loose = rest.rpartition("@")[0].partition(":")
    try:
        strict = urlsplit(url).password or ""
    except ValueError:
        strict = ""
    yield from sorted({strict, loose} - {"", user})
    yield from re.findall(r"(?i)[?&](?:password|passwd|pwd|secret|token)=([^&#\s]+)", url)


def secrets_of_databases(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The passwords of the project's databases. One that equals user, name or alias would mask half
    of every output.
    """
    for row in rows:
        password = str(row.get("password") or "")
        if password not in {
            str(row.get(name) or "") for name in ("user", "name", "alias", "vendor")
        }:
            yield password
        yield from secrets_of_url(str(row.get("host") or ""))


# -- logging ---------------------------------------------------------------------------


class MaskedRecord(logging.LogRecord):
    """A log record whose message and traceback hold neither secrets nor control characters,
    whichever handler it meets.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = visible(
                PROCESS("".join(traceback.format_exception(*self.exc_info)))
            ).rstrip("\n")

    def getMessage(self) -> str:
        return visible(PROCESS(super().getMessage()))


def mask_logging() -> None:
    """Every logger of this process masks from now on, those of libraries too. For processes that
    are ours alone.
    """
    logging.setLogRecordFactory(MaskedRecord)
