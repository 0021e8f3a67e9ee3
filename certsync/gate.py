"""The gate: which backends the balancer may send TLS to, and whether it does at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from certsync.proof import Proof, Verdict


@dataclass(frozen=True)
class Gate:
    """What the balancer's configuration says, or should say."""

    rule: bool
    """Whether port 443 is passed through."""

    members: Mapping[str, bool]
    """Backend to whether it takes traffic; a member never proven is written as disabled."""

    web: Mapping[str, bool] = field(default_factory=dict)
    """The same for port 80, where a first deploy lets all in: the CA's challenges come there."""

    @property
    def admitted(self) -> tuple[str, ...]:
        """The members that take traffic."""
        return tuple(name for name, inside in self.members.items() if inside)


def decide(wish: bool, backends: Sequence[str], before: Gate, proofs: Mapping[str, Proof]) -> Gate:
    """Return what the gate should be.

    ``before`` is what the balancer has now; ``proofs`` may lack a backend, or be empty when the
    issuer could not be asked. A probe's silence never takes out a member and never turns the rule
    off; a member that a client would refuse is taken out, unless it is the last.
    """
    inside = {name: _member(before.members.get(name, False), proofs.get(name)) for name in backends}
    if not any(inside.values()):
        # Rather the one certificate a client may refuse than nobody at all.
        kept = [name for name in backends if before.members.get(name, False)]
        inside.update(dict.fromkeys(kept[:1], True))
    web = {name: _on_port_80(name, before, proofs.get(name)) for name in backends}
    return Gate(wish and (before.rule or any(inside.values())), inside, web)


def _on_port_80(name: str, before: Gate, proof: Proof | None) -> bool:
    proven = proof is not None and proof.verdict is Verdict.IN_SYNC
    return proven or not before.web or before.web.get(name, False)


def _member(before: bool, proof: Proof | None) -> bool:
    if proof is None or proof.verdict is Verdict.UNREACHABLE:
        return before
    if proof.verdict is Verdict.BEHIND:
        return before
    return proof.verdict is Verdict.IN_SYNC


def read(configuration: str) -> Gate:
    """Return what a haproxy.cfg that we wrote says; anything else says nothing."""
    rule, section = False, ""
    pools: dict[str, dict[str, bool]] = {"backend tls": {}, "backend http": {}}
    for line in configuration.splitlines():
        words = line.split()
        if line[:1] not in ("", " ", "#") and words:
            section = " ".join(words[:2])
            rule = rule or section == "frontend tls"
        elif section in pools and words[:1] == ["server"]:
            pools[section][words[1]] = "disabled" not in words[3:]
    return Gate(rule, pools["backend tls"], pools["backend http"])


FORCED_DRAIN = 0x08
"""In a server's administrative state (HAProxy's management guide, `show servers state`)."""


def drained(configuration: str, states: str) -> list[str]:
    """Return the admitted members, as POOL/NAME, that a removal which was given up has drained.

    ``states`` is what HAProxy's `show servers state` prints. Nothing sets them ready again by
    itself: the state is kept over a reload.
    """
    admitted, section = set(), ""
    for line in configuration.splitlines():
        words = line.split()
        if line[:1] not in ("", " ", "#") and words:
            section = words[1] if words[0] == "backend" and len(words) > 1 else ""
        elif section and words[:1] == ["server"] and "disabled" not in words[3:]:
            admitted.add(f"{section}/{words[1]}")
    found = []
    for line in states.splitlines():
        # Pool's number and name, member's number and name, its address, what it does, what it may.
        words = line.split()
        if len(words) > 6 and words[6].isdigit() and int(words[6]) & FORCED_DRAIN:
            found.append(f"{words[1]}/{words[3]}")
    return [each for each in found if each in admitted]
