"""Ten thousand hostile messages on their way from a test to the JUnit file."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET

from lxml import etree

from dct_celery.core.model import Entry, Failure, Outcome, Phase, RunReport, Verdict
from dct_celery.core.text import strip_ansi
from dct_celery.reports.junit.document import render
from dct_celery.wire import messages

#: A tenth of all messages goes into one document.
DOCUMENTS, SIZE, SEED = 10, 1000, 20_240_711
#: What breaks XML, JSON, terminals or codecs, and then everything else.
NASTY = [
    "\x00", "\x07", "\x08", "\x0b", "\x0c", "\x1b", "\x1b[31m", "\x1b]0;", "\x7f", "\x85", "\x9b",
    "\t", "\u2028",
    "\ud800", "\udbff", "\udc00", "\udfff", "\ufdd0", "\ufeff", "\ufffe", "\uffff", "\U0001fffe",
    "\U0010ffff",
    "]]>", "<!--", "</failure>", "<![CDATA[", "&#0;", "&amp;", "'", '"', "\\u0000", "ü", "😀",
]  # fmt: skip
LINE_ENDS = ("\n", "\r")


def hostile(chance: random.Random) -> str:
    """Up to a dozen nasty or random parts; no line ends, which XML parsers make one kind of."""
    parts = (
        chance.choice(NASTY) if chance.random() < 0.7 else chr(chance.randrange(0x110000))
        for _ in range(12)
    )
    text = f"begin{''.join(part for part in parts if part not in LINE_ENDS)}end"
    # Two surrogates that make a pair are their character in JSON.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def visible(text: str) -> str:
    """By the rule of docs/junit.md, written once more: what XML cannot carry, and no reader shows,
    is spelled out.
    """

    def shown(c: str) -> str:
        code = ord(c)
        legal = (
            c == "\t"
            or 0x20 <= code <= 0x7E
            or 0xA0 <= code <= 0xD7FF
            or 0xE000 <= code <= 0xFFFD
            or code >= 0x10000
        )
        return c if legal else f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"

    return "".join(map(shown, strip_ansi(text)))


def verdict(index: int, text: str) -> Verdict:
    """A failure with this text everywhere, after it went over the wire."""
    failure = Failure("failure", "AssertionError", "m", text, subtest=text)
    sent = messages.decode(
        messages.TestFinished(index, Outcome.FAILED, 0.1, (failure,), output=text).encode()
    )
    assert isinstance(sent, messages.TestFinished)
    assert sent.output == text
    entry = Entry(index, f"app.T.test_{index}{text}", "app.T", "app", Phase.ISOLATED)
    return Verdict(entry, Outcome.FAILED, failures=sent.failures, output=sent.output)


def test_ten_thousand_hostile_messages_are_read_back_as_they_are_shown() -> None:
    # Given
    chance = random.Random(SEED)
    for _ in range(DOCUMENTS):
        texts = [hostile(chance) for _ in range(SIZE)]
        # When
        data = render(
            RunReport("r1", tuple(verdict(index, text) for index, text in enumerate(texts)), (), 1)
        )
        # Then both parsers read the same, and it is the text with its characters shown
        expat, libxml = ET.fromstring(data), etree.fromstring(data)
        outputs = [element.text for element in expat.iter("system-out")]
        assert outputs == [element.text for element in libxml.iter("system-out")]
        assert outputs == [visible(text) for text in texts]
        assert all(
            visible(text) in (element.text or "")
            for element, text in zip(expat.iter("failure"), texts, strict=True)
        )
        assert len({case.get("name") for case in expat.iter("testcase")}) == SIZE
