"""What the operator's side makes of what certsync on the issuer answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certsync.issuer.state import LineageState, State
from certsync.model.answers import (
    PROTOCOL,
    NewerProtocolError,
    NextRenewal,
    Origin,
    PastRun,
    Proven,
)
from certsync.model.proof import Proof, Verdict
from tests.unit.fake_fleet import NAME, NOW

SHOP = "shop.example.net"
ONE = Proof("backend-01", Verdict.IN_SYNC, "0001", "ab", "", "")
OTHER = replace(ONE, name="backend-02")


def test_proofs_are_by_lineage_and_backend() -> None:
    answer = {"proofs": [ONE.to_json()], "others": {SHOP: [OTHER.to_json()]}}
    assert Proven.from_json(answer, NAME).proofs == {
        NAME: {"backend-01": ONE}, SHOP: {"backend-02": OTHER},
    }  # fmt: skip


def test_the_key_exchange_comes_beside_the_proofs() -> None:
    proofs = {"proofs": [ONE.to_json(), OTHER.to_json()]}
    groups = {NAME: {"backend-01": "x25519", "backend-02": "\x1b[2J", "backend-09": "x25519"}}
    found = Proven.from_json({**proofs, "key_exchange": groups}, NAME).proofs[NAME]
    assert found == {"backend-01": ONE.choosing("x25519"), "backend-02": OTHER}
    assert Proven.from_json(proofs, NAME).proofs[NAME] == {"backend-01": ONE, "backend-02": OTHER}


def test_of_an_issuer_that_says_nothing_there_is_no_proof_and_no_run() -> None:
    assert Proven.from_json({}, NAME) == Proven(proofs={NAME: {}})


def test_an_issuer_that_knows_no_new_lineage_yet_names_the_one_that_comes_first_there() -> None:
    answer = {"lineage": NAME, "proofs": [ONE.to_json()]}
    assert Proven.from_json(answer, SHOP).proofs == {NAME: {"backend-01": ONE}}


def test_what_the_issuer_remembers_comes_over_as_it_is_kept() -> None:
    past = PastRun("issue", NOW, 75, "the CA is busy", "wait", ("kept the order",))
    state = State().ended(past).having(NAME, LineageState(mixed_seconds=1.5))
    answer = {
        "current": "0007",
        "state": state.to_json(),
        "next_renewal": NOW.isoformat(),
        "why": "a third is left",
        "renewals": {SHOP: ["", ""]},
        "origin": {"schema": 1, "sha256": "ab", "at": "today", "by": "somebody"},
        "compromise": "a key is to be replaced",
    }
    found = Proven.from_json(answer, NAME)
    assert (found.current, found.compromise) == ("0007", "a key is to be replaced")
    assert (found.runs, found.history, found.last_success) == ({"issue": past}, (past,), None)
    assert found.renewals == {NAME: NextRenewal(NOW, "a third is left")}
    assert found.mixed_seconds == {NAME: 1.5}
    assert found.origin == Origin("ab", "today", "somebody")


def test_what_a_newer_issuer_says_besides_is_ignored() -> None:
    answer = {"proofs": [{**ONE.to_json(), "mood": "good"}], "weather": "fair"}
    assert Proven.from_json(answer, NAME).proofs == {NAME: {"backend-01": ONE}}


@pytest.mark.parametrize(
    "answer",
    [
        [], "nonsense", {"proofs": 5}, {"proofs": [{}]}, {"proofs": [], "others": []},
        {"proofs": [{**ONE.to_json(), "verdict": "lovely"}]}, {"state": []},
        {"state": {"runs": {"issue": {"verb": "issue", "at": "noon", "exit": 0}}}},
        {"state": {"runs": {"issue": {"verb": "issue", "at": "2026-11-21", "exit": 0}}}},
        {"state": {"history": [{"verb": "issue", "at": NOW.isoformat(), "exit": "badly"}]}},
        {"protocol": float("inf")}, {"protocol": "two"},
        {"state": {"history": [{"verb": "issue", "at": NOW.isoformat(), "exit": float("inf")}]}},
        {"renewals": {SHOP: "soon"}}, {"origin": 5}, {"state": {"lineages": {NAME: 5}}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_answer_is_refused_as_a_whole(answer: Any) -> None:
    with pytest.raises(ValueError, match="not an answer from `certsync prove`"):
        Proven.from_json(answer, NAME)


def test_an_issuer_of_before_there_was_a_protocol_number_is_understood() -> None:
    answer = {"proofs": [ONE.to_json()]}
    assert Proven.from_json(answer, NAME) == Proven.from_json({**answer, "protocol": 0}, NAME)


def test_an_issuer_that_speaks_a_newer_protocol_is_not_misunderstood() -> None:
    answer = {"protocol": PROTOCOL + 1, "proofs": "in another form"}
    with pytest.raises(NewerProtocolError, match=f"^protocol {PROTOCOL + 1}$"):
        Proven.from_json(answer, NAME)


@pytest.mark.parametrize("field", ["generation", "fingerprint", "why"])
@pytest.mark.parametrize("said", [5, ["a"], {"a": 1}, None])
def test_what_should_be_words_in_a_proof_becomes_words(field: str, said: Any) -> None:
    answer = {"proofs": [{**ONE.to_json(), field: said}]}
    [proof] = Proven.from_json(answer, NAME).proofs[NAME].values()
    assert isinstance(getattr(proof, field), str)


@pytest.mark.parametrize("said", ["soon", 5, "2026-11-21"])
def test_an_end_of_validity_that_is_no_moment_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="not an answer from `certsync prove`"):
        Proven.from_json({"proofs": [{**ONE.to_json(), "not_after": said}]}, NAME)


@pytest.mark.parametrize("field", ["verb", "error", "hint"])
@pytest.mark.parametrize("said", [5, ["a"], None])
def test_what_should_be_words_of_a_run_becomes_words(field: str, said: Any) -> None:
    run = {"verb": "issue", "at": NOW.isoformat(), "exit": 1, "error": "", "hint": "", "did": []}
    [past] = Proven.from_json({"state": {"history": [{**run, field: said}]}}, NAME).history
    assert isinstance(getattr(past, field), str)
