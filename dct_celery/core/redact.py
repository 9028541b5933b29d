"""What a secret looks like in a URL; no log, report or message may show one."""

from __future__ import annotations

import re
from collections.abc import Callable

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
    r"(?P<secret>(?:(?!://)\S){0,4096}|\S{0,4096}|[^\n@'\"]{1,128}(?=@[\w\[]))(?P<end>@)"
)
_DIGITS = re.compile(
    rf"(?P<keep>://(?:{_SERVERS})[^\s/@:\[]{{1,256}}:)"
    r"(?P<secret>(?:(?!://)\S){1,4096})(?P<end>@)"
)
# A bracket at the end is that of a parametrized test.
_QUERY = re.compile(
    r"(?P<keep>[?&](?:password|passwd|pwd|secret|token)=)"
    r"(?P<secret>[^&#\s\"'<>]+?)(?P<end>\]?(?:(?=[&#\s\"'<>])|\Z))",
    re.IGNORECASE,
)


def redact(url_or_text: str, is_secret: Callable[[str], bool] = bool) -> str:
    """The text with the password of every URL in it replaced by `**`.

    Text without such URLs comes back unchanged, and so does a password that is not `is_secret`.
    """
    if "://" not in url_or_text or not ("@" in url_or_text or "=" in url_or_text):
        return url_or_text

    def masked(match: re.Match[str]) -> str:
        if match["secret"] and not is_secret(match["secret"]):
            return match[0]
        return f"{match['keep']}{MASK}{match['end']}"

    for pattern in (_USERINFO, _DIGITS, _QUERY):
        url_or_text = pattern.sub(masked, url_or_text)
    return url_or_text
