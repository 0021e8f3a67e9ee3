"""The table of what each host serves."""

from __future__ import annotations

from dataclasses import replace

from certsync.model import report
from certsync.model.proof import Proof, Verdict
from tests.unit.fake_fleet import NOW

PROOF = Proof("backend-01", Verdict.IN_SYNC, "0001", "ab" * 32, "", "")
HYBRID = replace(PROOF, key_exchange="X25519MLKEM768")


def shown(*proofs: Proof) -> list[str]:
    return report.table([report.row(proof, "yes", NOW) for proof in proofs]).splitlines()


def test_the_key_exchange_of_each_backend_is_a_column() -> None:
    head, first, second = shown(HYBRID, replace(PROOF, name="backend-02"))
    assert head.split("  ")[-1] == "key exchange"
    assert first.split()[-1] == "X25519MLKEM768"
    assert second.split()[-1] == "-"


def test_where_no_key_exchange_is_known_there_is_no_such_column() -> None:
    head, first = shown(PROOF)
    assert head.endswith("in pool")
    assert first.endswith("yes")


def test_a_finding_comes_last() -> None:
    behind = replace(HYBRID, verdict=Verdict.BEHIND, why="it serves generation 0001")
    head, first = shown(behind)
    assert head.endswith("key exchange    finding")
    assert first.endswith("yes      X25519MLKEM768  it serves generation 0001")


def test_programs_get_the_key_exchange_too() -> None:
    row = report.row(HYBRID, "yes", NOW)
    assert row.to_json()["key_exchange"] == "X25519MLKEM768"
    assert row.good, "and it is no finding"
    assert report.row(PROOF, "yes", NOW).to_json()["key_exchange"] == ""
