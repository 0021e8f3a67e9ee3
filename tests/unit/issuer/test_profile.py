"""A certificate profile that the CA does not offer, or no longer offers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from certsync.issuer.ca.issuance.client import check_profile, is_offered
from certsync.model.errors import CaError


def ca(*offered: str) -> Any:
    """Return a client of a CA that offers these."""
    return SimpleNamespace(directory={"meta": SimpleNamespace(profiles=dict.fromkeys(offered, ""))})


def test_a_profile_that_is_offered_and_none_at_all_are_fine() -> None:
    told: list[str] = []
    for wanted in ("", "shortlived"):
        assert is_offered(ca("shortlived"), wanted)
        check_profile(ca("shortlived"), wanted, told.append, insisting=False)
    assert told == []


@pytest.mark.parametrize(
    ("offered", "hint"),
    [
        (("tlsserver", "classic"), "set certificate.profile to one of: classic, tlsserver"),
        ((), "it offers none: remove certificate.profile"),
    ],
)
def test_one_that_is_not_offered_stops_an_order_while_there_is_time(
    offered: tuple[str, ...], hint: str
) -> None:
    told: list[str] = []
    with pytest.raises(CaError) as caught:
        check_profile(ca(*offered), "shortlived", told.append, insisting=False)
    assert caught.value.hint == hint
    check_profile(ca(*offered), "shortlived", told.append, insisting=True)
    assert told[0].startswith(
        'warning: the CA offers no certificate profile "shortlived": ordering'
    )
    assert not is_offered(ca(*offered), "shortlived")
