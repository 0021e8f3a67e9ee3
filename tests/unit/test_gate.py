"""The gate: proof admits, silence changes nothing, and the last member stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certsync import templates
from certsync.fleet import Authority
from certsync.gate import Gate, decide, drained, read
from certsync.options import Balancing, OnCertificateFailure
from certsync.proof import Proof, Verdict
from tests.unit.fake_fleet import DIRECTORY, fleet, machine

NAMES = ("backend-01", "backend-02")
IN = dict.fromkeys(NAMES, True)
OUT = dict.fromkeys(NAMES, False)


def gate_of(rule: bool, members: dict[str, bool]) -> Gate:
    """Return a gate that has every backend on port 80, as a first deploy leaves it."""
    return Gate(rule, members, dict.fromkeys(members, True))


def proofs(**verdicts: Verdict) -> dict[str, Proof]:
    names = {key.replace("_", "-"): verdict for key, verdict in verdicts.items()}
    return {name: Proof(name, verdict, "", "", "", "") for name, verdict in names.items()}


def test_a_member_is_admitted_and_the_rule_turned_on_by_proof() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.UNREACHABLE)
    gate = decide(wish=True, backends=NAMES, before=gate_of(False, {}), proofs=seen)
    assert gate == gate_of(True, {"backend-01": True, "backend-02": False})


def test_without_any_proof_nothing_is_turned_on() -> None:
    assert decide(wish=True, backends=NAMES, before=gate_of(False, {}), proofs={}) == gate_of(
        False, OUT
    )


@pytest.mark.parametrize("verdict", [None, Verdict.UNREACHABLE, Verdict.BEHIND])
def test_a_member_stays_where_no_client_would_refuse_it(verdict: Verdict | None) -> None:
    seen = proofs(backend_01=verdict, backend_02=verdict) if verdict else {}
    assert decide(wish=True, backends=NAMES, before=gate_of(True, IN), proofs=seen) == gate_of(
        True, IN
    )


def test_a_member_that_clients_would_refuse_is_taken_out() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.WRONG)
    gate = decide(wish=True, backends=NAMES, before=gate_of(True, IN), proofs=seen)
    assert gate.admitted == ("backend-01",)


def test_the_last_member_is_never_taken_out() -> None:
    seen = proofs(backend_01=Verdict.WRONG, backend_02=Verdict.WRONG)
    gate = decide(wish=True, backends=NAMES, before=gate_of(True, IN), proofs=seen)
    assert gate.admitted == ("backend-01",)
    assert gate.rule


def test_one_that_was_never_proven_is_not_admitted_for_being_reached() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.BEHIND)
    gate = decide(wish=True, backends=NAMES, before=gate_of(False, OUT), proofs=seen)
    assert gate.admitted == ("backend-01",)


def test_the_wish_turns_the_rule_off_and_keeps_the_members() -> None:
    gate = decide(wish=False, backends=NAMES, before=gate_of(True, IN), proofs={})
    assert gate == gate_of(False, IN)


def test_a_backend_that_left_the_fleet_is_no_member() -> None:
    before = gate_of(True, {**IN, "backend-09": True})
    assert "backend-09" not in decide(True, NAMES, before, {}).members


def test_on_port_80_a_first_deploy_lets_everybody_in_for_the_challenges() -> None:
    assert decide(wish=True, backends=NAMES, before=Gate(False, {}), proofs={}).web == IN


@pytest.mark.parametrize("rule", [True, False])
def test_who_joins_a_fleet_in_service_is_on_port_80_only_once_it_is_proven(rule: bool) -> None:
    before = gate_of(rule, {"backend-01": True})
    assert decide(True, NAMES, before, {}).web == {"backend-01": True, "backend-02": False}
    seen = proofs(backend_02=Verdict.BEHIND)
    assert not decide(True, NAMES, before, seen).web["backend-02"]
    seen = proofs(backend_02=Verdict.IN_SYNC)
    assert decide(True, NAMES, before, seen).web == IN


def test_who_is_on_port_80_stays_there_whatever_it_serves() -> None:
    seen = proofs(backend_01=Verdict.IN_SYNC, backend_02=Verdict.WRONG)
    assert decide(True, NAMES, gate_of(True, IN), seen).web == IN


@pytest.mark.parametrize("rule", [True, False])
@pytest.mark.parametrize("members", [IN, OUT, {"backend-01": True, "backend-02": False}])
@pytest.mark.parametrize("web", [IN, {"backend-01": True, "backend-02": False}])
@pytest.mark.parametrize("failure", list(OnCertificateFailure))
def test_what_is_written_into_haproxy_cfg_is_read_back(
    rule: bool, members: dict[str, bool], web: dict[str, bool], failure: OnCertificateFailure
) -> None:
    gate = Gate(rule, members, web)
    made = fleet(2, balancing=Balancing(on_certificate_failure=failure))
    assert read(templates.haproxy(made, gate)) == gate


@pytest.mark.parametrize(
    "text", ["", "frontend web\n  bind :80\nbackend web\n  server a 1.2.3.4\n"]
)
def test_somebody_elses_configuration_says_nothing(text: str) -> None:
    assert read(text) == Gate(False, {})


def test_the_check_verifies_names_dates_and_roots_and_never_resumes() -> None:
    made = fleet(1, authority=Authority(DIRECTORY, roots="/roots.pem"))
    text = templates.haproxy(made, gate_of(True, {"backend-01": True}))
    assert (
        "check check-ssl no-ssl-reuse check-sni passthrough.example.com verify required "
        "ca-file /etc/haproxy/certsync-roots.pem" in text
    )


def test_other_roots_are_another_configuration_so_that_haproxy_reads_them() -> None:
    made, gate = fleet(1), gate_of(True, {"backend-01": True})
    assert "\n# Roots with SHA-256 abc.\n" in templates.haproxy(made, gate, "abc")
    assert "Roots with" not in templates.haproxy(made, gate)


def test_an_ipv6_member_is_written_in_brackets() -> None:
    six = machine("backend-01", 11, private_address="2001:db8::11")
    made = replace(fleet(1), backends=(six,))
    text = templates.haproxy(made, gate_of(True, {"backend-01": True}))
    assert "server backend-01 [2001:db8::11]:443\n" in text


CONFIGURATION = """\
# Port 80
frontend http
    bind :::80 v4v6
backend http
    server backend-01 203.0.113.11:80
    server backend-02 203.0.113.12:80
backend tls
    server backend-01 203.0.113.11:443
    server backend-02 203.0.113.12:443 disabled
"""
STATES = """\
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 http 1 backend-01 203.0.113.11 2 0 1
3 http 2 backend-02 203.0.113.12 2 8 1
4 tls 1 backend-01 203.0.113.11 0 40 1
4 tls 2 backend-02 203.0.113.12 0 8 1
"""


def test_members_that_are_drained_are_found_and_one_that_is_not_proven_is_left_as_it_is() -> None:
    assert drained(CONFIGURATION, STATES) == ["http/backend-02", "tls/backend-01"]
    assert drained(CONFIGURATION, "") == drained("", STATES) == []
