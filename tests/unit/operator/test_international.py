"""Names in other scripts than ASCII."""

from __future__ import annotations

import pytest

from certsync.operator.fleet_file.international import in_ascii, is_label


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("Bücher.Example", "xn--bcher-kva.example"),
        ("bu\N{COMBINING DIAERESIS}cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("中国\N{IDEOGRAPHIC FULL STOP}cn", "xn--fiqs8s.cn"),
        ("l·l.example", "xn--ll-0ea.example"),
        ("★.example", ""),
        ("a b\u00a0.example", ""),
        ("ü..example", ""),
    ],
)
def test_a_name_is_written_in_punycode_or_is_none(name: str, written: str) -> None:
    assert in_ascii(name) == written
    assert all(is_label(label) for label in written.split("."))


@pytest.mark.parametrize(
    "label",
    ["xn--a", "xn--a-", "xn--", "xn--zzzzzz99999", "xn--bcher-KVA", "xn--MNCHEN-3ya", "xn--i-7iq"],
)
def test_punycode_that_nobody_would_write_is_no_label(label: str) -> None:
    assert not is_label(label)


def test_a_label_without_the_prefix_is_not_judged() -> None:
    assert is_label("www")
