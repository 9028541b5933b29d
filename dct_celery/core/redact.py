"""Owns what a secret looks like in text: passwords inside URLs, which no log, report or message may show."""

from __future__ import annotations

import re

#: What stands in the place of a secret.
MASK = "**"

# `user:12345/` is host and port, not a secret; an empty user can only be a secret's. Passwords are often pasted without
# being quoted, so one may hold "/", ":" and "@": it reaches to the last "@" before a blank or before the next URL.
# The limits keep the search linear on text without blanks.
_USERINFO = re.compile(
    r"(?P<keep>://(?:[^\s/@:\[]{1,256}:(?!\d{1,5}[/?#])|:))(?:(?:(?!://)\S){0,4096}@|\S{0,4096}@)",
)
_QUERY = re.compile(r"(?P<keep>[?&](?:password|passwd|pwd|secret|token)=)[^&#\s\"'<>]+", re.IGNORECASE)


def redact(url_or_text: str) -> str:
    """The text with the password of every URL in it replaced by `**`; text without such URLs comes back unchanged."""
    if "://" not in url_or_text:
        return url_or_text
    masked = _USERINFO.sub(rf"\g<keep>{MASK}@", url_or_text)
    return _QUERY.sub(rf"\g<keep>{MASK}", masked)
