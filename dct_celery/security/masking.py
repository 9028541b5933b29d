"""Masks secrets in text: by value, as far as this process knows them, and by their surroundings.

Everything that leaves a process of ours goes through a `Masker`: terminal, logs, reports, journal,
error lines. It comes before encoding, so that it can break neither JSON nor XML, and before
cutting, so that no half of a secret remains. Pure except for `PROCESS`.
"""

from __future__ import annotations

import functools
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

#: A value of at least this many characters is masked wherever it stands. Shorter ones, and digits
#: alone, would leave outputs full of holes.
ANYWHERE = 8
#: A value of at least this many characters is masked as a whole word; a shorter one only where a
#: pattern finds it.
_SHORTEST = 4
#: A line of a secret of several lines (a PEM key) is masked by itself from this length on.
_LINE = 16
#: Passwords of throw-away servers that are also words of ordinary output.
COMMON = frozenset(
    {"admin", "changeme", "default", "development", "django", "dummy", "example", "false",
     "guest", "insecure", "letmein", "local", "localhost", "mariadb", "mysql", "none", "null",
     "pass", "password", "postgres", "postgresql", "production", "public", "rabbitmq", "redis",
     "root", "sample", "secret", "sqlite", "test", "tester", "testing", "tests", "token", "true",
     "user", "username", "valkey"}
)  # fmt: skip
#: Texts of at most this many characters are remembered with what they are masked to, and how many
#: of them: the reasons of skips and of tests that have not run come by the thousand.
_REMEMBERED_LENGTH, _REMEMBERED = 200, 256
#: Keys of records whose strings are texts of tests or workers; all others are protocol values or
#: names.
_TEXTS = frozenset({"text", "message", "output", "sql", "reason", "detail", "cause", "what"})

# -- patterns --------------------------------------------------------------------------

#: Names that hold a secret, by a whole word in them: "DB_PASSWORD", "apiKey", "key", but not
#: "KeyError" or "monkey".
_NAME = (
    r"(?:(?<!com)(?<!by)pass|password|passwd|passphrase|pwd|secret|token|credential"
    r"|(?:api|access|secret|private|signing)[_-]?key|(?<![a-z])key)"
    r"(?:s|[_-][\w-]{1,40})?(?![\w-])"
)
_QUOTED = r"""[bruf]{0,2}(?P<quote>\\?["'])(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)"""
#: Punctuation at the end of a bare value belongs to its surroundings.
_BARE = r"""[^\s&"'][^\s&]*?(?=["')\]}>,;]{0,8}(?:[\s&]|\Z))"""
_HARMLESS_VALUE = r"(?:True|False|None|null|[\[({])"
#: Every match of a pattern has one of these in its first line.
_HINTS = ("pass", "pwd", "secret", "token", "credential", "key", "identified", "mysql", "mariadb")
_PATTERNS = (
    # `name=value`; `name: value` where one of them is quoted, as in JSON and Python
    re.compile(
        rf"""(?P<keep>{_NAME}(?:\s{{0,4}}=>?\s{{0,4}}|\\?["']\s{{0,4}}:\s{{0,4}}))"""
        rf"""(?!{_HARMLESS_VALUE})(?:{_QUOTED}|{_BARE})"""
        rf"""|(?P<keep2>{_NAME}\s{{0,4}}:\s{{0,4}}){_QUOTED.replace("quote", "quote2")}""",
        re.IGNORECASE,
    ),
    # a line of YAML
    re.compile(
        rf"(?im)^(?P<keep>[ \t]{{0,40}}(?:-[ ])?[\w-]{{0,40}}?{_NAME}:[ ]{{1,4}})"
        rf"(?!{_HARMLESS_VALUE})\S[^\n]*$"
    ),
    # `PASSWORD 'hush'` and `IDENTIFIED BY 'hush'` of SQL
    re.compile(rf"(?i)(?P<keep>\b(?:password|identified\s+by(?:\s+password)?)\s{{1,4}}){_QUOTED}"),
    # `mysql -phush`
    re.compile(r"(?P<keep>\b(?:mysql|mariadb)[\w-]{0,20}[^\n]{0,400}?\s-p)(?![\s-])\S+"),
)


def mask_patterns(text: str) -> str:
    """The text with every secret that can be recognised replaced by `**`.

    Recognised are passwords of URLs, libpq and MySQL, and values of names with pass, secret, token
    or key. Masking twice is masking once.
    """
    return redact("\n".join(_masked_lines(text)))


def _masked_lines(text: str) -> Iterator[str]:
    """Searches only lines with a hint, and the line after each: the patterns are slow."""
    lines, lower = text.split("\n"), text.lower().split("\n")
    hinted = [any(hint in line for hint in _HINTS) for line in lower]
    searched = [own or before for own, before in zip(hinted, [False, *hinted], strict=False)]
    pairs = zip(searched, lines, strict=True)
    for is_searched, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        part = "\n".join(line for _, line in group)
        if is_searched:
            for pattern in _PATTERNS:
                part = pattern.sub(_masked, part)
        yield part


def _masked(match: re.Match[str]) -> str:
    groups = match.groupdict("")
    quote_ = groups.get("quote", "") + groups.get("quote2", "")
    return f"{groups['keep']}{groups.get('keep2', '')}{quote_}{MASK}{quote_}"


# -- values ----------------------------------------------------------------------------


class Masker:
    """Masks the secrets that it was given, and what looks like one.

    `PROCESS` is the masker of this process.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        #: Longest first, so that a secret that begins with another one is masked as a whole. None:
        #: it is masked wherever it stands.
        self._words: dict[str, re.Pattern[str] | None] = {}
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """From now on these values are masked as well."""
        words = {*self._words, *(form for value in values for form in _forms(value))}
        longest = sorted(words, key=lambda word: (-len(word), word))
        self._words = {
            word: _whole_word(word) if len(word) < ANYWHERE else None for word in longest
        }
        self._remembered = functools.lru_cache(_REMEMBERED)(self._mask)

    def values(self, text: str) -> str:
        """The text without the known secrets."""
        before = ""
        # A mask may complete a secret that contains asterisks; each round makes the text shorter.
        while text != before:
            before = text
            # Searching for a word is far faster than any pattern, and hardly any text contains one.
            for word, pattern in self._words.items():
                if word in text:
                    text = text.replace(word, MASK) if pattern is None else pattern.sub(MASK, text)
        return text

    def output(self, text: str) -> str:
        """What a test printed, without known secrets and passwords in URLs.

        `password: 'x'` stays: it may be what the test is about.
        """
        return self.values(redact(self.values(text)))

    def name(self, text: str) -> str:
        """The id of a test, or another name of the project, masked like an output.

        Only what can be a secret: `url[ftp://user:pass@host]` stays, as other tools know it by
        that.
        """
        return self.values(redact(self.values(text), is_secret))

    def __call__(self, text: str) -> str:
        """The text without known secrets and without what looks like one."""
        if not text:
            return text
        return self._remembered(text) if len(text) <= _REMEMBERED_LENGTH else self._mask(text)

    def _mask(self, text: str) -> str:
        return self.values(mask_patterns(self.values(text)))

    def texts(self, data: Any) -> Any:
        """Decoded JSON with the texts of tests and workers in it masked as outputs.

        Protocol values and names stay.
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


#: Knows the secrets of this process. `settings.load` adds those of the settings and the
#: environment, the dispatcher those of the project's databases.
PROCESS = Masker()


def _whole_word(word: str) -> re.Pattern[str]:
    # The character before the word is checked last, so that the search can begin with its letters.
    return re.compile(rf"{re.escape(word)}(?<!\w{re.escape(word)})(?!\w)")


def _forms(value: str) -> Iterator[str]:
    """The forms that the value takes in text.

    Plain, percent-encoded and decoded, and quoted in JSON or Python.
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
    """Whether the value can be masked wherever it stands: long enough, and not a common word."""
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
#: How names of variables end that hold a user or a database.
_IDENTITIES = ("USER", "USERNAME", "DB", "DATABASE", "DB_NAME", "DBNAME")
#: Last words of names that say where a secret is, not what it is.
_LOCATIONS = frozenset(
    {"FILE", "PATH", "DIR", "FOLDER", "NAME", "HOST", "PORT", "TYPE", "TTL", "TIMEOUT", "COMMAND"}
)


def names_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret.

    DB_PASSWORD, PGPASSWORD and API_KEYS do, KEY_FILE and PWD do not.
    """
    words = name.upper().replace("-", "_").split("_")
    if name.upper() in ("PWD", "OLDPWD") or words[-1] in _LOCATIONS:
        return False
    return any(
        word.removesuffix("S") in _SECRET_WORDS or word.endswith("PASSWORD") for word in words
    )


def secrets_of_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Values of variables that are named like a secret, and passwords of all URLs.

    One that is a user or database as well is left out, as in `secrets_of_databases`: it is often
    the name of the project, too.
    """
    known = {value for name, value in environ.items() if name.upper().endswith(_IDENTITIES)}
    for name, value in environ.items():
        if names_secret(name) and "://" not in value and value not in known:
            yield value
        yield from secrets_of_url(value)


def secrets_of_url(url: str) -> Iterator[str]:
    """The password of a URL; nothing for other text. A password equal to its user is not secret."""
    if "://" not in url:
        return
    rest = url.partition("://")[2]
    # Unquoted "/", "#", "?" and "@" in a password mislead urlsplit, so what stands before the last
    # "@" is a candidate as well.
    user, _, loose = rest.rpartition("@")[0].partition(":")
    try:
        strict = urlsplit(url).password or ""
    except ValueError:
        strict = ""
    yield from sorted({strict, loose} - {"", user})
    yield from re.findall(r"(?i)[?&](?:password|passwd|pwd|secret|token)=([^&#\s]+)", url)


def secrets_of_databases(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The passwords of the project's databases, and those among their options.

    A password equal to user, name or alias is left out: it would mask half of every output.
    """
    for row in rows:
        known = {str(row.get(name) or "") for name in ("user", "name", "alias", "vendor")}
        options = row.get("options")
        named = options.items() if isinstance(options, Mapping) else ()
        secret = [str(value) for name, value in named if names_secret(str(name))]
        yield from (one for one in (str(row.get("password") or ""), *secret) if one not in known)
        yield from secrets_of_url(str(row.get("host") or ""))


# -- logging ---------------------------------------------------------------------------


class MaskedRecord(logging.LogRecord):
    """A log record whose message and traceback are masked and free of control characters.

    So it does not matter which handler gets it.
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
    """Masks all logs of this process from now on, those of libraries too.

    For processes that run no code of the project.
    """
    logging.setLogRecordFactory(MaskedRecord)
