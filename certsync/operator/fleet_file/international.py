"""Names in other scripts than ASCII: how they are written in DNS (RFC 5890, RFC 3492)."""

from __future__ import annotations

import unicodedata

PREFIX = "xn--"
LETTERS = ("Ll", "Lm", "Lo", "Mn", "Mc", "Nd")
"""The categories of nearly all characters that a label may have (RFC 5892 section 2.1)."""

OTHERS = "-\N{MIDDLE DOT}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\N{IDEOGRAPHIC NUMBER ZERO}"
"""The others that appear in names (RFC 5892 section 2.6)."""


def in_ascii(name: str) -> str:
    """Return how a name is written in DNS: each label in punycode; empty: it is no such name."""
    labels = (
        unicodedata.normalize("NFC", name.lower())
        .replace("\N{IDEOGRAPHIC FULL STOP}", ".")
        .split(".")
    )
    written = [each if each.isascii() else _in_ascii(each) for each in labels]
    return ".".join(written) if all(written) else ""


def _in_ascii(label: str) -> str:
    found = PREFIX + label.encode("punycode").decode()
    return found if is_label(found) else ""


def is_label(label: str) -> bool:
    """Return whether a label is what one in another script becomes, if it has the prefix of one."""
    if not label.startswith(PREFIX):
        return True
    try:
        shown = label.removeprefix(PREFIX).encode().decode("punycode")
    except UnicodeError:
        return False
    return (
        not shown.isascii()
        and shown == unicodedata.normalize("NFC", shown.lower())
        and PREFIX + shown.encode("punycode").decode() == label
        and all(each in OTHERS or unicodedata.category(each) in LETTERS for each in shown)
    )
