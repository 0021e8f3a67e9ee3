"""A backend leaves: who may be called compromised, and what is told when only its keys are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from certsync import templates
from certsync.commands import remove_backend
from certsync.commands.remove_backend import Leaving, Options
from certsync.errors import CertsyncError
from certsync.progress import Outcome
from deploy import issuer
from tests.unit.fake_fleet import fleet

HEADING = f"# {templates.HEADER}\n"
GONE = Leaving(Path("f.toml"), "backend-09", Options(compromised=True), fleet(), None)


def test_who_has_left_is_remembered_until_it_is_in_the_fleet_again() -> None:
    assert issuer.left(fleet(), ["", "\n"]) == ""
    once = issuer.left(fleet(), ["", "backend-09\n"])
    assert once == f"{HEADING}backend-09\n"
    assert issuer.left(fleet(), [once, "backend-08\n"]) == f"{HEADING}backend-08\nbackend-09\n"
    assert issuer.left(fleet(9), [once, "\n"]) == HEADING


def test_only_who_has_left_is_called_compromised_when_no_backend_has_the_name() -> None:
    remove_backend._refuse_a_stranger(GONE, ["backend-09"])
    with pytest.raises(CertsyncError) as caught:
        remove_backend._refuse_a_stranger(GONE, ["backend-08"])
    assert caught.value.message == (
        "f.toml has no backend backend-09, and none of that name has left it; nothing was changed"
    )
    assert caught.value.hint == (
        "its backends are backend-01, backend-02, backend-03; those have left: backend-08; of one "
        "that left while an issuer that is dead kept the list, on backend-01: sudo certsync "
        "compromised --by backend-09"
    )


@pytest.mark.parametrize(
    ("outcome", "alone"),
    [
        (Outcome(failed={"backend-01": "Replace the keys"}), True),
        (Outcome(failed={"backend-01": "Rendered fleet"}), False),
        (Outcome(failed={"backend-01": "Replace the keys", "balancer": "haproxy.cfg"}), False),
        (Outcome(("backend-03",), {"backend-01": "Replace the keys"}), False),
        (Outcome(), False),
    ],
)
def test_it_has_left_if_nothing_but_its_keys_is_left_to_be_done(
    outcome: Outcome, alone: bool
) -> None:
    assert remove_backend._are_only_keys_left(GONE.fleet, outcome) is alone


def test_that_only_its_keys_are_left_is_told_with_what_goes_on() -> None:
    message, hint = remove_backend._of_keys_left(GONE, ["backend-01: the CA is busy"])
    assert message == (
        "backend-09 has left; its keys are not all replaced yet: backend-01: the CA is busy"
    )
    assert hint == (
        "the hourly run goes on by itself once it can, and so does certsync remove-backend f.toml "
        "backend-09 --gone --compromised"
    )
