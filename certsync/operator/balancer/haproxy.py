"""The balancers' state: members, from HAProxy's runtime socket, addresses and configuration."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass

from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Machine
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import FIRST, OTHERS, Gate
from certsync.programs import command
from certsync.system import parallel, ssh

ADDRESS, CONFIGURATION = "# address ", "# configuration "
DRAINED = "drained: `certsync deploy` readmits it, or finish `certsync remove-backend`"


WAY_OUT = "allow it in the firewall, or set proxy_protocol = false under [balancing]"

Pools = Mapping[str, Mapping[str, str]]
"""Each member's state, by pool (its name in haproxy.cfg) and member."""


@dataclass(frozen=True)
class Answer:
    """One balancer's answer."""

    members: dict[str, str]
    """Each member's state, see `members`."""

    pools: Pools
    """The same for each pool separately."""

    addresses: tuple[str, ...]
    """All addresses that the machine has now."""

    gate: Gate
    """The gate in its configuration."""


def ask(fleet: Fleet) -> dict[str, Answer | HostError]:
    """Return each balancer's answer, or why it could not be asked."""

    def ask(machine: Machine) -> Answer | HostError:
        try:
            output = ssh.on(machine, fleet.known_hosts, command("balancer_state.sh")).stdout
        except HostError as error:
            return error
        return Answer(members(output), in_pools(output), addresses(output), configured(output))

    names = [machine.name for machine in fleet.balancers]
    return dict(zip(names, parallel.each(ask, fleet.balancers), strict=True))


def pools(fleet: Fleet) -> dict[str, Pools | HostError]:
    """Return each balancer's pools, or why it could not be asked."""
    return {
        name: each.pools if isinstance(each, Answer) else each for name, each in ask(fleet).items()
    }


def addresses(output: str) -> tuple[str, ...]:
    """Return a machine's addresses from the script's output."""
    return tuple(line.partition("/")[0] for line in _of(output, ADDRESS))


def configured(output: str) -> Gate:
    """Return the gate in haproxy.cfg from the script's output."""
    return gate.read("\n".join(_of(output, CONFIGURATION)))


def without_client_address(fleet: Fleet, answers: Mapping[str, Answer]) -> list[Finding]:
    """Return the backends that take a balancer's traffic without the client's address."""
    port = gate.proxy_port(fleet)
    if not port:
        return []
    found = []
    for balancer, answer in answers.items():
        taking = list(answer.gate.taking)
        missing = [name for name in taking if answer.gate.ports.get(name) != port]
        if missing and missing == taking:
            text = (
                "it sends no backend the client's address: no deploy has turned that on yet, or "
                f"no backend answers it on port {port} ({WAY_OUT})"
            )
            found.append(Finding(balancer, text))
            continue
        text = (
            f"{balancer} sends it connections without the client's address, because its port "
            f"{port} did not answer {balancer} ({WAY_OUT})"
        )
        found += [Finding(name, text) for name in missing]
    return found


def members(output: str) -> dict[str, str]:
    """Return each member's state over all pools: see `in_pools`."""
    found: dict[str, dict[str, str]] = {}
    for pool, words in in_pools(output).items():
        for name, word in words.items():
            found.setdefault(name, {})[pool.removeprefix(OTHERS)] = word
    return {name: _together(words) for name, words in found.items()}


def in_pools(output: str) -> dict[str, dict[str, str]]:
    """Return each member's state in each pool, from HAProxy's statistics and its configuration.

    `yes` takes traffic; `disabled` was never proven; `drained: …` was being removed; `down: …`
    fails its check for this reason; `rule off`: the passthrough rule is off.
    """
    lines = [
        line
        for line in output.splitlines()
        if line and not line.startswith((ADDRESS, CONFIGURATION))
    ]
    rule = configured(output).rule
    table = [line.removeprefix("# ") for line in lines]
    found: dict[str, dict[str, str]] = {}
    for entry in csv.DictReader(table):
        pool, name = entry.get("pxname") or "", entry.get("svname") or ""
        is_member = name not in ("BACKEND", "FRONTEND", "") and (entry.get("status") or "").strip()
        if is_member and (pool == FIRST or pool.startswith(OTHERS)):
            found.setdefault(pool, {})[name] = _word(entry) if rule else "rule off"
    return found


def _together(words: dict[str, str]) -> str:
    """Return one text for a member's state in the pools of several lineages."""
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{word} ({pool})" for pool, word in words.items() if word != "yes")


def _word(entry: dict[str, str]) -> str:
    # "UP 1/2" is going down, "DOWN 1/2" is coming up: the first word is the present state.
    status = entry["status"].split()[0]
    if status == "UP":
        return "yes"
    if status == "MAINT":
        return "disabled"
    if status == "DRAIN":
        return DRAINED
    reason = entry.get("last_chk") or entry.get("check_desc") or ""
    return f"{status.lower()}: {reason}" if reason else status.lower()


def _of(output: str, kind: str) -> list[str]:
    return [line.removeprefix(kind) for line in output.splitlines() if line.startswith(kind)]
