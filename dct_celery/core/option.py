"""What an option is: its names, the values it accepts, how a bad one is shown.

Which options exist is in `settings`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from dct_celery.core import address
from dct_celery.core.redact import MASK, redact

Kind = Literal["str", "int", "float", "bool", "list", "path", "program", "url"]
Group = Literal["tests", "fleet", "code", "database", "limits", "report", "timings", "worker"]

_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
_DESCRIPTIONS = {
    "int": "a whole number",
    "float": "a number of seconds",
    "bool": "true or false",
    "list": "a list of texts",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: how it is given, what it may be. The table of all is `settings.OPTIONS`."""

    kind: Kind
    group: Group
    #: One line, without a full stop.
    help: str
    default: object = None
    #: Empty: no flag of `dct run` (the options of the worker).
    flags: tuple[str, ...] = ()
    metavar: str = ""
    #: Allowed values; for a URL, its schemes.
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    #: Regular expression that the text (or every item of a list) must match.
    pattern: str = ""
    #: The pattern in words, for messages.
    rule: str = ""
    #: Value of the flag when it is given without one, of `true` in TOML, and of "auto" anywhere;
    #: None if it needs a value.
    bare: object = None
    #: With `bare`: what the word behind the flag must match to be its value, and not a label.
    follower: str = r"-?\d+|auto"
    #: 0 and `none` are accepted as well and mean that there is no limit.
    off: bool = False
    secret: bool = False
    #: Field of `Settings`.
    name: str = ""
    variable: str = ""
    #: Other variables of this meaning: "NAME", or "!NAME" for a switch of the opposite meaning.
    aliases: tuple[str, ...] = ()

    @property
    def switches_off(self) -> bool:
        """Its flag is there to say no."""
        return self.kind == "bool" and self.default is True

    @property
    def key(self) -> str:
        """Key in [tool.dct]: "test-timeout"."""
        return self.name.replace("_", "-")


def accept(option: Option, value: object, *, text: bool) -> object:
    """The valid value in the type of its field.

    With `text` the value is the text of a flag or variable and is parsed; otherwise it must have
    its type already. Raises ValueError (see `shown` and `expected` for a message); for a URL
    AddressError, whose text says what is wrong.
    """
    try:
        if option.off and str(value).lower() == "none":
            return 0.0
        typed = _typed(option, _parsed(option, str(value)) if text else value)
        usable = _in_range(option, typed)
    except (KeyError, OverflowError) as exc:
        raise ValueError(value) from exc
    if not usable:
        raise ValueError(value)
    return typed


def _parsed(option: Option, text: str) -> object:
    """What the text of a flag or variable stands for; raises ValueError or KeyError."""
    if option.kind == "bool":
        return _BOOLEANS[text.lower()]
    if option.kind == "list":
        return [item for item in map(str.strip, text.split(",")) if item]
    if option.kind == "path" and option.bare is not None and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if option.kind == "int" and option.bare is not None and text[-1:].isalpha():
        return text.lower() == "auto" or _BOOLEANS[text.lower()]
    if option.kind == "path" and option.bare is not None:
        return _BOOLEANS.get(text.lower(), text)
    if option.kind == "int":
        return int(text)
    if option.kind == "float":
        return float(text)
    return text


def _typed(option: Option, value: object) -> object:
    """The value in the type of its field; raises ValueError for any other type."""
    if option.bare is not None and (value == "auto" or isinstance(value, bool)):
        return option.bare if value else None
    number = isinstance(value, int) and not isinstance(value, bool)
    if option.kind == "float" and (number or isinstance(value, float)):
        return float(value)  # type: ignore[arg-type]
    if option.kind == "list" and isinstance(value, list | tuple):
        if all(isinstance(item, str) and item for item in value):
            return tuple(value)
        raise ValueError(value)
    if option.kind == "int":
        fits = number
    elif option.kind == "bool":
        fits = isinstance(value, bool)
    else:
        fits = option.kind not in ("float", "list") and isinstance(value, str)
    if not fits:
        raise ValueError(value)
    return value


def _in_range(option: Option, value: object) -> bool:
    if option.kind == "url":
        return _url_is_usable(str(value), option.choices)
    if isinstance(value, int | float):
        if option.off and value == 0:
            return True
        return math.isfinite(value) and option.minimum <= value <= option.maximum
    if option.choices:
        return value in option.choices
    pattern = option.pattern or r"(?s:.+)"
    texts = value if isinstance(value, tuple) else (value,)
    return all(re.fullmatch(pattern, text) for text in texts if isinstance(text, str))


def _url_is_usable(url: str, schemes: tuple[str, ...]) -> bool:
    if "://" not in url or url.partition("://")[0] not in schemes:
        return False
    address.parse(url)
    return True


def shown(option: Option, value: object) -> str:
    """The value as a message may show it.

    Never a secret, nor what follows the "=" of a variable given with its value.
    """
    if option.secret and "://" not in str(value):
        return "the value"
    items = option.kind == "list" and isinstance(value, list | tuple)
    text = ", ".join(map(str, value)) if items else str(value)  # type: ignore[call-overload]
    if option.kind == "list" and option.pattern:
        text = re.sub(r"=[^,]*", f"={MASK}", text)
    return repr(redact(text)) if items or isinstance(value, str) else redact(text)


def expected(option: Option) -> str:
    """What a valid value is, as the object of "give ..."."""
    if option.kind == "url":
        starts = ", ".join(scheme + "://" for scheme in option.choices)
        return f"a URL that starts with {starts}"
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    text = _DESCRIPTIONS.get(option.kind, "a text that is not empty")
    if option.rule and option.kind != "list":
        text = option.rule
    if option.minimum > -math.inf:
        text += f", at least {option.minimum:g}"
    if option.maximum < math.inf:
        text += f", at most {option.maximum:g}"
    if option.rule and option.kind == "list":
        text += f": {option.rule}"
    if option.kind == "int" and option.bare is not None:
        text += ", or auto"
    return f"{text}, or none" if option.off else text
