"""Who may become the issuer, and whether a fleet file says what was deployed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest

from certsync.commands.promote import held
from certsync.differences import undeployed
from certsync.fleet import Authority, Fleet
from certsync.options import KeyType
from certsync.proof import Proof, Verdict
from certsync.succession import Holding, objection_of_holdings, objection_of_proofs
from tests.unit.fake_fleet import DIRECTORY, fleet, machine

TWO, THREE = Holding("0002", "b", "b"), Holding("0003", "c", "c")


def proof(name: str, verdict: Verdict, why: str = "") -> Proof:
    return Proof(name, verdict, "", "", "", why)


def test_who_is_proven_may_become_the_issuer_and_nobody_else() -> None:
    proofs = [proof("a", Verdict.IN_SYNC), proof("b", Verdict.BEHIND, "it serves generation 0001")]
    assert objection_of_proofs("a", proofs) == ""
    assert objection_of_proofs("b", proofs) == "it serves generation 0001"
    assert objection_of_proofs("c", proofs) == "the issuer does not know it"


def test_without_an_issuer_it_is_who_serves_the_newest_generation_that_is_served() -> None:
    assert objection_of_holdings("a", {"a": THREE, "b": THREE, "c": TWO}) == ""
    told = objection_of_holdings("c", {"a": THREE, "b": THREE, "c": TWO})
    assert told == "it holds generation 0002, and a serves 0003, b serves 0003"


def test_a_newer_generation_that_nobody_serves_does_not_count() -> None:
    assert objection_of_holdings("a", {"a": TWO, "b": Holding("0003", "c", "b")}) == ""


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (None, "it cannot be reached"),
        (Holding("", "", "x"), "it holds no generation"),
        (Holding("0000", "p", "p"), "it holds no generation"),
        (Holding("0003", "c", "b"), "it holds generation 0003, and serves something else"),
        (
            Holding("0003", "c", ""),
            "it holds generation 0003, and was not seen to serve anything",
        ),
    ],
)
def test_who_does_not_hold_and_serve_one_may_not(own: Holding | None, told: str) -> None:
    assert objection_of_holdings("a", {"a": own} if own else {}) == told


PEMS = [
    f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(each).decode()}\n-----END CERTIFICATE-----\n"
    for each in (b"one", b"two")
]


def test_what_a_backend_holds_and_serves_is_read_from_what_was_printed_there() -> None:
    one = hashlib.sha256(b"one").hexdigest()
    found = held(f"0007\nheld\n{PEMS[0]}served\n{PEMS[1]}")
    assert found == Holding("0007", one, hashlib.sha256(b"two").hexdigest())
    assert held(f"0007\nheld\n{PEMS[0]}served\n") == Holding("0007", one, "")
    assert held("\nheld\nserved\n") == held("") == Holding("", "", "")


def test_a_fleet_file_that_says_what_is_deployed_has_no_differences() -> None:
    assert undeployed(fleet(3), fleet(3), ()) == []


def test_machines_that_a_command_is_changing_may_be_in_one_of_the_two_alone() -> None:
    assert undeployed(fleet(3), fleet(2), ("backend-03",)) == []
    assert undeployed(fleet(2), fleet(3), ("backend-03",)) == []
    assert undeployed(fleet(3), fleet(2), ()) == ["backends.backend-03"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (replace(fleet(2), names=("other.example.com",)), ["names"]),
        (replace(fleet(2), key_type=KeyType.RSA_2048), ["certificate"]),
        (replace(fleet(2), authority=Authority("https://other.example/dir")), ["ca"]),
        (replace(fleet(2), passthrough=False), ["passthrough"]),
        (
            replace(fleet(2), backends=(machine("backend-01", 11), machine("backend-02", 99))),
            ["backends.backend-02"],
        ),
    ],
)
def test_what_was_edited_and_not_deployed_is_named(changed: Fleet, told: list[str]) -> None:
    assert undeployed(changed, fleet(2), ()) == told


def test_paths_on_an_operators_machine_are_no_difference() -> None:
    here = replace(fleet(2), authority=Authority(DIRECTORY, roots="/home/a/roots.pem"))
    there = replace(fleet(2), authority=Authority(DIRECTORY, roots="/home/b/roots.pem"))
    assert undeployed(here, there, ()) == []
    assert undeployed(here, fleet(2), ()) == ["ca"]
