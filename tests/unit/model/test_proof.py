"""What a handshake means."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

from certsync.model.proof import Proof, Served, Unreachable, Verdict, judge
from tests.unit.fake_fleet import NOW, manifest

CHAIN = (b"leaf", b"intermediate")
CURRENT = replace(manifest(2), fingerprint=hashlib.sha256(b"leaf").hexdigest())
OLDER = replace(manifest(1), fingerprint=hashlib.sha256(b"older").hexdigest())
KNOWN = (OLDER, CURRENT)


def verdict(seen: Served | Unreachable) -> Proof:
    return judge("backend-02", seen, CHAIN, KNOWN, CURRENT, NOW)


def test_the_current_leaf_with_its_full_chain_is_in_sync() -> None:
    proof = verdict(Served(CHAIN, ""))
    assert (proof.verdict, proof.generation, proof.why) == (Verdict.IN_SYNC, "0002", "")


def test_the_leaf_without_its_chain_is_wrong_though_a_client_may_know_the_rest() -> None:
    proof = verdict(Served((b"leaf",), ""))
    assert proof.verdict is Verdict.WRONG
    assert proof.why == "it serves 1 certificate(s), not the full chain"


def test_an_older_generation_that_clients_trust_is_behind() -> None:
    proof = verdict(Served((b"older", b"intermediate"), ""))
    assert (proof.verdict, proof.why) == (Verdict.BEHIND, "it serves generation 0001")


def test_what_clients_refuse_is_wrong_whichever_generation_it_is() -> None:
    proof = verdict(Served(CHAIN, "certificate has expired"))
    assert proof.verdict is Verdict.WRONG
    assert proof.why == "it serves generation 0002: certificate has expired"


def test_a_strange_certificate_is_told_as_one() -> None:
    proof = verdict(Served((b"strange",), "self-signed certificate"))
    assert proof.why == "it serves a certificate not issued here: self-signed certificate"
    assert proof.generation == ""


def test_our_own_clock_sees_an_expiry_that_the_roots_do_not() -> None:
    late = CURRENT.not_after + timedelta(seconds=1)
    proof = judge("backend-02", Served(CHAIN, ""), CHAIN, KNOWN, CURRENT, late)
    assert proof.verdict is Verdict.WRONG


def test_silence_is_unreachable_and_says_why() -> None:
    proof = verdict(Unreachable("no answer"))
    assert (proof.verdict, proof.why) == (Verdict.UNREACHABLE, "no answer")


def test_before_the_first_issue_nobody_is_in_sync() -> None:
    proof = judge("backend-02", Served(CHAIN, ""), (), (), None, NOW)
    assert proof.verdict is Verdict.BEHIND


def test_a_proof_is_read_as_it_was_written() -> None:
    proof = verdict(Served(CHAIN, ""))
    assert Proof.from_json(proof.to_json()) == proof


def test_when_a_certificate_was_issued_is_known_here_and_told_to_nobody() -> None:
    proof = verdict(Served(CHAIN, "", NOW))
    assert proof.not_before == NOW
    assert "not_before" not in proof.to_json()
    assert Proof.from_json(proof.to_json()) == replace(proof, not_before=None)


def test_a_key_exchange_is_taken_if_it_is_one_that_we_offer() -> None:
    proof = verdict(Served(CHAIN, ""))
    for said, taken in (("x25519", "x25519"), ("\x1b[2J", ""), (["x25519"], ""), (None, "")):
        assert proof.choosing(said).key_exchange == taken


def test_the_fields_of_a_proof_stay_as_older_operators_know_them() -> None:
    written = verdict(Served(CHAIN, "")).choosing("x25519").to_json()
    assert set(written) == {"name", "verdict", "generation", "fingerprint", "not_after", "why"}
