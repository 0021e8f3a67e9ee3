"""Which issuer of which fleet: every promotion raises the epoch, and nothing else does."""

from __future__ import annotations

import pytest

from certsync.model import epoch
from certsync.model.epoch import Epoch

FLEET, OTHER = "f1" * 16, "0e" * 16


def of(*numbers: int) -> list[Epoch]:
    return [Epoch(number, FLEET) for number in numbers]


@pytest.mark.parametrize(
    ("issuer", "others", "promoting", "wanted"),
    [
        pytest.param(None, [], False, 1, id="a first deploy"),
        pytest.param(Epoch(3, FLEET), of(3, 3), False, 3, id="a later deploy"),
        pytest.param(Epoch(3, FLEET), of(2), False, 3, id="a replica that a promotion missed"),
        pytest.param(None, of(3, 2), False, 4, id="an issuer installed anew"),
        pytest.param(None, of(3, 3), True, 4, id="a promotion"),
        pytest.param(Epoch(4, FLEET), of(3, 4), True, 4, id="the same promotion again"),
        pytest.param(Epoch(1, FLEET), of(3), True, 4, id="a promotion of a former issuer"),
        pytest.param(None, [Epoch(7, OTHER), *of(2, 2)], True, 3, id="one host of another fleet"),
    ],
)
def test_an_issuer_gets_its_epoch(
    issuer: Epoch | None, others: list[Epoch], promoting: bool, wanted: int
) -> None:
    found = epoch.current(issuer, others, FLEET, promoting=promoting)
    assert found == Epoch(wanted, FLEET)


def test_a_later_issuer_and_another_fleets_end_an_epoch() -> None:
    own = Epoch(3, FLEET)
    assert [each.ends(own) for each in of(2, 3, 4)] == [False, False, True]
    assert Epoch(1, OTHER).ends(own)


@pytest.mark.parametrize("heading", ["", "# Written by certsync\nmachine abc 1\n", "# "])
def test_what_is_written_is_read(heading: str) -> None:
    assert epoch.in_text(f"{heading}{Epoch(12, FLEET)}\nssh-ed25519 AAAA\n") == Epoch(12, FLEET)


@pytest.mark.parametrize(
    "text",
    [
        "", "None", "epoch 0 of " + FLEET, "epoch -1 of " + FLEET, f"epoch {10**9} of {FLEET}",
        f"epoch 1 of {FLEET}0", f"epoch 1 of {FLEET.upper()}", f"epoch \u0661 of {FLEET}",
        f"x epoch 1 of {FLEET}", f"epoch 1 of {FLEET} x",
    ],
)  # fmt: skip
def test_anything_else_is_no_epoch(text: str) -> None:
    assert epoch.in_text(text) is None


def test_a_fleets_identity_is_the_same_each_time_and_another_one_for_each_fleet() -> None:
    found = {
        epoch.fleet_of(machine, name) for machine in "ab" for name in ("x.example", "y.example")
    }
    assert len(found) == 4
    assert epoch.fleet_of("a", "x.example") in found
    assert epoch.in_text(str(Epoch(1, found.pop()))) is not None
