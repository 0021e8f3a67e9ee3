"""`certsync status`: probe every backend now, and the public addresses from here."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.model import report
from certsync.model.answers import Origin, Proven
from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Lineage
from certsync.model.options import Provider
from certsync.model.proof import Proof, Served, Unreachable, Verdict, judge
from certsync.model.report import Row
from certsync.operator.balancer import haproxy, vrrp
from certsync.operator.balancer.gate import proxy_port
from certsync.operator.balancer.haproxy import Answer
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts import issuer_side
from certsync.operator.watching import alt_svc, proxy_protocol_check, watch
from certsync.system import parallel, proving
from certsync.system.handshake import probe

HEALS = "run `certsync deploy` with the same fleet file: it heals what it can reach"

Shown = Mapping[tuple[str, str], tuple[Served | Unreachable, str]]
"""Lineage and public address to what it shows, and to its promise of HTTP/3; empty: not looked."""

Asked = dict[str, Answer | HostError]
"""Balancer to what it says."""


@dataclass(frozen=True)
class Status:
    """What was seen, and what is wrong with it."""

    fleet: Fleet
    rows: list[Row]
    findings: list[Finding]
    """Empty: all in sync."""

    past: list[Finding]
    """Those of the findings that say how earlier runs ended, which no other run can change."""

    without_client_address: list[Finding]
    """Those that say who is not told the client's address, which only a deploy changes."""

    proven: Proven
    """What the issuer says; nothing, if it cannot be asked."""

    renewal: list[str]
    """When the last hourly run was, and when each certificate is renewed and why then, in words."""

    seen_from: str
    notes: list[str]
    """What a person should know, and is no finding."""

    hint: str

    @property
    def awaited(self) -> list[str]:
        """The backends that a balancer will take back when its next checks have passed."""
        return [row.name for row in self.rows if row.proven and "down" in row.pool]

    def text(self) -> str:
        """Return what a person reads."""
        lines = [report.table(self.rows)]
        if self.seen_from != self.fleet.issuer_name:
            lines.append("seen from this machine alone: the issuer cannot be asked")
        lines += self.renewal
        lines += watch.history(self.proven, self.fleet)
        lines += self.notes
        if trust := report.trust_note(self.fleet):
            lines.append(trust)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as what `json.dumps` takes."""
        return {
            "lineage": self.fleet.name,
            "seen_from": self.seen_from,
            "publicly_trusted": self.fleet.authority.publicly_trusted,
            "rows": [row.to_json() for row in self.rows],
            "findings": [str(each) for each in self.findings],
            "state": self.proven.state,
            "renewal": self.renewal,
            "notes": self.notes,
        }


def status(file: FleetFile, now: datetime) -> Status:
    """Return what every backend serves, and what every public address shows from here.

    Raises:
        FleetFileError: the fleet file has mistakes.
    """
    fleet = file.fleet
    # At the same time: each of them waits for other machines.
    with ThreadPoolExecutor(parallel.AT_ONCE) as pool:
        answered = pool.submit(_answer, fleet)
        told_by_balancers = pool.submit(haproxy.ask, fleet)
        shown = _shown(fleet, pool) if fleet.passthrough else {}
        answer, findings = answered.result()
        asked = told_by_balancers.result()
    seen_from = fleet.issuer_name if answer else "here"
    told = answer or Proven()
    pools, unasked = _pools(fleet, asked)
    held, wrong_holders = _virtual(fleet, asked)
    rows, notes = list[Row](), list[str]()
    for each in fleet.lineages:
        proofs = _proofs(fleet, each, told, now)
        through, unseen = _through(fleet, each, proofs, shown, now)
        more = [report.row(proof, pools.get(proof.name, "-"), now) for proof in proofs]
        more += [report.row(proof, "-", now) for proof in through]
        # The first lineage's rows have the names of their hosts alone.
        other = "" if each.name == fleet.name else each.name
        rows += [replace(row, lineage=other) for row in more]
        notes += unseen
    heard = {name: each for name, each in asked.items() if isinstance(each, Answer)}
    without_client_address = haproxy.without_client_address(fleet, heard)
    findings += unasked + wrong_holders + _findings(fleet, rows) + without_client_address
    past = watch.findings(told, fleet, now) if answer else []
    # Where the issuer cannot be asked, what is to be done about that comes first.
    hint = next((each.hint for each in findings if each.hint), HEALS)
    notes += held + _of_other_file(file, told.origin)
    renewal = [line for line in (watch.last_run(told, now), *watch.coming(told, fleet)) if line]
    wrong = findings + past
    return Status(
        fleet, rows, wrong, past, without_client_address, told, renewal, seen_from, notes, hint
    )  # fmt: skip


def _of_other_file(file: FleetFile, origin: Origin | None) -> list[str]:
    if origin is None or origin.sha256 == file.sha256:
        return []
    text = (
        f"the fleet was deployed from another version of {file.path.name}, on {origin.at} by "
        f"{origin.by}: deploy this one, or pull the newer"
    )
    return [text]


def _proofs(fleet: Fleet, lineage: Lineage, told: Proven, now: datetime) -> list[Proof]:
    """Return the issuer's proofs of a lineage; one that it knows nothing of is seen from here."""
    known = told.proofs.get(lineage.name)
    return _from_here(fleet, lineage, now) if known is None else list(known.values())


def _from_here(fleet: Fleet, lineage: Lineage, now: datetime) -> list[Proof]:
    """Return what the backends show this machine, by the addresses that it reaches them by."""
    wanted = proving.Expected(None, (), (), fleet.authority.roots)
    machines = [replace(each, private_address=each.address) for each in fleet.holders(lineage)]
    uncompared = "clients trust it; which generation it is, only the issuer can tell"
    return [
        replace(proof, why=uncompared) if proof.verdict is Verdict.BEHIND else proof
        for proof in proving.prove(machines, lineage.name, wanted, now)
    ]


def _answer(fleet: Fleet) -> tuple[Proven | None, list[Finding]]:
    """Return what the issuer says, or nothing and why."""
    try:
        return issuer_side.proven(fleet, fleet.issuer), []
    except HostError as error:
        return None, [Finding(error.host, error.why, error.hint)]


def _shown(fleet: Fleet, pool: Executor) -> Shown:
    """Return what each public address shows this machine, for each lineage."""
    port, roots = proving.TLS_PORT, fleet.authority.roots
    looks = {
        (each.name, address): (
            pool.submit(probe, address, port, each.name, roots),
            pool.submit(alt_svc.promise, address, port, each.name),
        )
        for each in fleet.lineages
        for address in fleet.public_addresses
    }
    return {where: (seen.result(), said.result()) for where, (seen, said) in looks.items()}


def _through(
    fleet: Fleet, lineage: Lineage, proofs: list[Proof], shown: Shown, now: datetime
) -> tuple[list[Proof], list[str]]:
    """Return what each public address shows from here, and notes of those not to be seen from here.

    An address is as good as the backend that serves the same.
    """
    trusted = (Verdict.IN_SYNC, Verdict.BEHIND)
    served = {proof.fingerprint: proof for proof in proofs if proof.verdict in trusted}
    found, notes = list[Proof](), list[str]()
    for address in fleet.public_addresses if shown else ():
        seen, header = shown[lineage.name, address]
        if not notes and header:
            notes.append(alt_svc.note(lineage.name, header))
        if isinstance(seen, Unreachable) and seen.no_route:
            notes.append(f"{address}: not looked at, this machine has no route to it")
            continue
        if isinstance(seen, Unreachable) and fleet.balancer.provider is Provider.NONE:
            # Whether its rule is on yet, only who looks after it knows.
            notes.append(
                f"{address}: nothing answers on port 443: `certsync rules` says what to set"
            )
            continue
        judged = judge(address, seen, (), (), None, now)
        same = served.get(judged.fingerprint)
        if judged.verdict is Verdict.BEHIND and same is not None:
            judged = replace(same, name=address)
        elif judged.verdict is Verdict.BEHIND:
            judged = replace(judged, why="it shows another certificate than the backends")
        if judged.verdict in trusted and _drops_requests(fleet, lineage, address):
            why = proxy_protocol_check.finding(proxy_port(fleet) or proving.TLS_PORT)
            judged = replace(judged, verdict=Verdict.UNREACHABLE, why=why)
        found.append(judged)
    return found, notes


def _drops_requests(fleet: Fleet, lineage: Lineage, address: str) -> bool:
    """Return whether somebody else's balancer is one that the backends do not answer."""
    if fleet.balancer.provider is not Provider.NONE:
        return False
    path = fleet.balancing.health_path
    return proxy_protocol_check.drops_requests(address, proving.TLS_PORT, lineage.name, path)


def _virtual(fleet: Fleet, asked: Asked) -> tuple[list[str], list[Finding]]:
    """Return the note of who has the virtual addresses, and what is wrong with that."""
    seen = {name: each.addresses for name, each in asked.items() if isinstance(each, Answer)}
    held = vrrp.holders(fleet, seen)
    unasked = [name for name in asked if name not in seen]
    return [line for line in [vrrp.note(held)] if line], vrrp.findings(held, unasked)


def _pools(fleet: Fleet, asked: Asked) -> tuple[dict[str, str], list[Finding]]:
    """Return each backend's word by all balancers together, and who could not be asked."""
    unasked = [
        Finding(name, each.why) for name, each in asked.items() if isinstance(each, HostError)
    ]
    heard = {name: each.members for name, each in asked.items() if isinstance(each, Answer)}
    words = {}
    for machine in fleet.backends:
        said = {name: each[machine.name] for name, each in heard.items() if machine.name in each}
        if said:
            words[machine.name] = report.pool_words(said)
    return words, unasked


def _findings(fleet: Fleet, rows: list[Row]) -> list[Finding]:
    found = []
    for row in rows:
        if row.good:
            continue
        if row.pool not in ("yes", "-", "") and fleet.passthrough and not row.finding:
            found.append(Finding(row.host, f"not in the pool: {row.pool}", lineage=row.lineage))
        elif row.finding:
            found.append(Finding(row.host, row.finding, lineage=row.lineage))
    return found
