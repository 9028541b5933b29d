"""What a secret looks like in a URL; no log, report or message may show one."""

from __future__ import annotations

import re

#: Replaces a secret.
MASK = "**"

# `http://host:12345/` is host and port, not a secret; what follows an empty user is always a
# secret. Passwords are often pasted without being quoted, so one may contain "/", "#", ":", "@" and
# even blanks. Without a blank it reaches to the last "@" before a blank or the next URL, with
# blanks to the first "@" of its line that a host can follow. The limits keep the search linear.
_PORT = r"\d{1,5}(?:[/?#\s'\",;)\]}>]|\Z)"
# URLs of these servers have no "@" in their path: "user:12/34@host" is a password that begins with
# digits.
_SCHEMES = (
    "redis", "rediss", r"redis\+socket", "unix", "amqp", "amqps", "postgres", "postgresql", "mysql",
)  # fmt: skip
_SERVERS = "|".join(f"(?<={scheme}://)" for scheme in _SCHEMES)
# Both begin with the literal "://", which is what makes the search fast.
_USERINFO = re.compile(
    rf"(?P<keep>://(?:[^\s/@:\[]{{1,256}}:(?!{_PORT})|:))"
    r"(?:(?:(?!://)\S){0,4096}@|\S{0,4096}@|[^\n@'\"]{1,128}@(?=[\w\[]))"
)
_DIGITS = re.compile(rf"(?P<keep>://(?:{_SERVERS})[^\s/@:\[]{{1,256}}:)(?:(?!://)\S){{1,4096}}@")
_QUERY = re.compile(
    r"(?P<keep>[?&](?:password|passwd|pwd|secret|token)=)[^&#\s\"'<>]+", re.IGNORECASE
)


def redact(url_or_text: str) -> str:
    """The text with the password of every URL in it replaced by `**`.

    Text without such URLs comes back unchanged.
    """
    if "://" not in url_or_text or not ("@" in url_or_text or "=" in url_or_text):
        return url_or_text
    masked = _USERINFO.sub(rf"\g<keep>{MASK}@", url_or_text)
    masked = _DIGITS.sub(rf"\g<keep>{MASK}@", masked)
    return _QUERY.sub(rf"\g<keep>{MASK}", masked)
