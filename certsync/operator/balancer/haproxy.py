"""What the balancers say: of their members, through HAProxy's runtime socket, and of themselves."""

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
DRAINED = "drained: `certsync deploy` takes it back, or finish `certsync remove-backend`"


WAY_OUT = "let the firewall pass it, or write proxy_protocol = false under [balancing]"

Pools = Mapping[str, Mapping[str, str]]
"""Pool, as haproxy.cfg calls it, to member to its word."""


@dataclass(frozen=True)
class Answer:
    """What one balancer says."""

    members: dict[str, str]
    """Each member's word, see `members`."""

    pools: Pools
    """The same for each pool by itself."""

    addresses: tuple[str, ...]
    """All addresses that the machine has at the moment."""

    gate: Gate
    """What its configuration says."""


def ask(fleet: Fleet) -> dict[str, Answer | HostError]:
    """Return, for each balancer, what it says, or why it could not be asked."""

    def ask(machine: Machine) -> Answer | HostError:
        try:
            told = ssh.on(machine, fleet.known_hosts, command("balancer_state.sh")).stdout
        except HostError as error:
            return error
        return Answer(members(told), in_pools(told), addresses(told), configured(told))

    names = [machine.name for machine in fleet.balancers]
    return dict(zip(names, parallel.each(ask, fleet.balancers), strict=True))


def pools(fleet: Fleet) -> dict[str, Pools | HostError]:
    """Return, for each balancer, what it says of each pool, or why it could not be asked."""
    return {
        name: each.pools if isinstance(each, Answer) else each for name, each in ask(fleet).items()
    }


def addresses(output: str) -> tuple[str, ...]:
    """Return the addresses of a machine, from the lines of them."""
    return tuple(line.partition("/")[0] for line in _of(output, ADDRESS))


def configured(output: str) -> Gate:
    """Return what haproxy.cfg says, from the lines of it."""
    return gate.read("\n".join(_of(output, CONFIGURATION)))


def without_client_address(fleet: Fleet, answers: Mapping[str, Answer]) -> list[Finding]:
    """Return who takes a balancer's traffic and is not told the client's address."""
    port = gate.proxy_port(fleet)
    if not port:
        return []
    found = []
    for balancer, answer in answers.items():
        taking = list(answer.gate.taking)
        missing = [name for name in taking if answer.gate.ports.get(name) != port]
        if missing and missing == taking:
            text = (
                "it tells no backend the client's address: no deploy has turned that on yet, or "
                f"none of them answers it on port {port} ({WAY_OUT})"
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
    """Return each member's word, of all pools together: see `in_pools`."""
    found: dict[str, dict[str, str]] = {}
    for pool, words in in_pools(output).items():
        for name, word in words.items():
            found.setdefault(name, {})[pool.removeprefix(OTHERS)] = word
    return {name: _together(words) for name, words in found.items()}


def in_pools(output: str) -> dict[str, dict[str, str]]:
    """Return each member's word in each pool, from HAProxy's statistics and its configuration.

    `yes` takes traffic; `disabled` has never been proven; `drained: …` was about to leave;
    `down: …` fails its check, with the
    reason; `rule off` where the rule itself is.
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
    """Return one word for a member's standing in the pools of several lineages."""
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{word} ({pool})" for pool, word in words.items() if word != "yes")


def _word(entry: dict[str, str]) -> str:
    # "UP 1/2" is on its way down, "DOWN 1/2" on its way up: the first word says what it does.
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
