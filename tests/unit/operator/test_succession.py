"""Who may become the issuer, and whether a fleet file says what was deployed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest

from certsync.model.finding import Finding
from certsync.model.fleet import Authority, Fleet
from certsync.model.options import KeyType
from certsync.model.proof import Proof, Verdict
from certsync.operator.commands import promote
from certsync.operator.deployment import conclusion
from certsync.operator.deployment.promotion import held
from certsync.operator.deployment.succession import (
    Holding,
    is_ordered_anew,
    objection_of_holdings,
    objection_of_proofs,
)
from certsync.operator.fleet_file.differences import undeployed
from tests.unit.fake_fleet import DIRECTORY, NAME, fleet, lineage, machine

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
    assert told == "it holds generation 0002, but a serves 0003, b serves 0003"


def test_a_newer_generation_that_nobody_serves_does_not_count() -> None:
    assert objection_of_holdings("a", {"a": TWO, "b": Holding("0003", "c", "b")}) == ""


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (None, "it cannot be reached"),
        (Holding("", "", "x"), "it holds no generation"),
        (Holding("0000", "p", "p"), "it holds no generation"),
        (Holding("0003", "c", "b"), "it holds generation 0003, but serves something else"),
        (
            Holding("0003", "c", ""),
            "it holds generation 0003, but was not seen to serve anything",
        ),
    ],
)
def test_who_does_not_hold_and_serve_one_may_not(own: Holding | None, told: str) -> None:
    assert objection_of_holdings("a", {"a": own} if own else {}) == told


SHOP = "shop.example.net"


def shared(count: int, *serving: str, top: tuple[str, ...] = (), **changes: object) -> Fleet:
    """Return a fleet whose second lineage is served by some."""
    lineages = (lineage(serving=top), lineage(SHOP, serving=serving))
    return fleet(count, lineages=lineages, **changes)


def test_an_issuer_has_to_hold_what_it_serves_and_orders_the_rest_anew() -> None:
    served = ("backend-01", "backend-02")
    apart = shared(3, "backend-03", top=served, issuer_name="backend-02")
    first, shop = apart.lineages
    assert not is_ordered_anew(apart, first, "")
    assert is_ordered_anew(apart, shop, "")
    assert is_ordered_anew(apart, shop, "0000")
    # Whose is it? One that served it may have an old one, which nobody is to get.
    assert not is_ordered_anew(apart, shop, "0003")


def test_that_a_lineage_is_ordered_anew_is_told_with_what_does_it() -> None:
    assert promote.of_order("backend-02", SHOP) == (
        f"backend-02 does not serve {SHOP}, so it has no certificate for it; its next hourly run "
        "orders one, and until then the backends that serve it keep theirs. To order it now, on "
        "backend-02: sudo certsync renew"
    )


def test_what_is_known_to_be_wrong_after_a_promotion_is_no_failure_of_it() -> None:
    apart = shared(
        3, "backend-03", top=("backend-01", "backend-02"),
        issuer_name="backend-02", public_addresses=("203.0.113.10",),
    )  # fmt: skip
    known = promote.expected(apart, "", [SHOP])
    assert known == [("backend-02", SHOP), ("backend-03", SHOP), ("203.0.113.10", SHOP)]
    assert promote.expected(apart, "backend-01", []) == [("backend-01", ""), ("backend-01", SHOP)]
    behind = Finding("backend-03", "it serves generation 0002: no", lineage=SHOP)
    assert conclusion.unexpected([behind], known) == []
    silent = Finding("backend-03", "no answer")
    assert conclusion.unexpected([behind, silent], known) == [silent]
    assert promote.expected(apart, "", [NAME])[:2] == [("backend-01", ""), ("backend-02", "")]


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
        (fleet(2, names=("other.example.com",)), ["names"]),
        (fleet(2, key_type=KeyType.RSA_2048), ["certificate"]),
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


def test_who_comes_or_leaves_may_be_named_as_serving_on_one_side_alone() -> None:
    both, one = ("backend-02", "backend-03"), ("backend-02",)
    leaving = ("backend-03",)
    assert undeployed(shared(2, *one), shared(3, *both), leaving) == []
    assert undeployed(shared(3, *both), shared(2, *one), leaving) == []
    assert undeployed(shared(2, top=one), shared(3, top=both), leaving) == []
    assert undeployed(shared(3, *one), shared(3, *both), ()) == ["lineages"]


def test_who_serves_a_lineage_is_something_that_has_to_be_deployed() -> None:
    one = ("backend-02",)
    assert undeployed(shared(3, top=one), shared(3), ()) == ["served_by"]
    # None named says that all serve it, and not that nobody besides the one that changes does.
    assert undeployed(shared(3, top=one), shared(3), one) == ["served_by"]
    assert undeployed(shared(3, *one), shared(3), one) == ["lineages"]


def test_paths_on_an_operators_machine_are_no_difference() -> None:
    here = replace(fleet(2), authority=Authority(DIRECTORY, roots="/home/a/roots.pem"))
    there = replace(fleet(2), authority=Authority(DIRECTORY, roots="/home/b/roots.pem"))
    assert undeployed(here, there, ()) == []
    assert undeployed(here, fleet(2), ()) == ["ca"]
