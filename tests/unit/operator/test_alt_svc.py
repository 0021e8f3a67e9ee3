"""Whether a site promises HTTP/3, which is not passed through."""

from __future__ import annotations

import pytest

from certsync.operator.watching.alt_svc import note, offers_http_3


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        ('h3=":443"; ma=86400', True),
        ('h2=":443", h3-29=":443"', True),
        ('h2=":443"', False),
        ("clear", False),
        ("", False),
        ('oh3=":443"', False),
    ],
)
def test_http_3_is_told_from_other_services(header: str, offers: bool) -> None:
    assert offers_http_3(header) is offers


def test_a_person_is_told_what_it_costs_and_what_to_do() -> None:
    assert note("www.example.com", 'h3=":443"') == (
        'www.example.com advertises HTTP/3 (Alt-Svc: h3=":443"), but UDP is not passed through: '
        "browsers try it and lose time; remove the header from your site"
    )
