"""A certificate profile that the CA does not offer, or no longer offers."""

from __future__ import annotations

import contextlib
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from certsync.issuer.ca.issuance.client import check_profile, is_offered
from certsync.model.errors import CaError

obtain: Any = import_module("certsync.issuer.ca.issuance.obtain")
"""The package's name for it is its function."""


def ca(*offered: str) -> Any:
    """Return a client of a CA that offers these."""
    return SimpleNamespace(directory={"meta": SimpleNamespace(profiles=dict.fromkeys(offered, ""))})


@pytest.mark.parametrize(
    ("profile", "problem", "insisting", "placed"),
    [
        pytest.param("shortlived", "invalidProfile", True, ["shortlived", ""], id="time is up"),
        pytest.param("shortlived", "invalidProfile", False, ["shortlived"], id="there is time"),
        pytest.param("shortlived", "rateLimited", True, ["shortlived"], id="another problem"),
        pytest.param("", "invalidProfile", True, [""], id="it had none"),
    ],
)
def test_a_profile_that_the_ca_lists_and_refuses_is_left_out_in_the_end(
    profile: str, problem: str, placed: list[str], *, insisting: bool
) -> None:
    asked: list[str] = []
    told: list[str] = []

    def place(wanted: str) -> Any:
        asked.append(wanted)
        if len(asked) == 1:
            raise CaError("the CA refuses", "", problem)

    refuses = contextlib.nullcontext() if len(placed) > 1 else pytest.raises(CaError)
    with refuses:
        obtain._placed(place, profile, told.append, insisting=insisting)
    assert asked == placed
    assert len(told) == len(placed) - 1


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
