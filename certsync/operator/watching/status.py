"""`certsync status`: probe every backend from the issuer, and the public addresses from here."""

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

HEALS = "run `certsync deploy` with the same fleet file: it repairs what it can reach"

Shown = Mapping[tuple[str, str], tuple[Served | Unreachable, str]]
"""What is served, and any HTTP/3 header, by lineage and public address; empty: not probed."""

Asked = dict[str, Answer | HostError]
"""Each balancer's answer."""


@dataclass(frozen=True)
class Status:
    """What each host serves, and what is wrong."""

    fleet: Fleet
    rows: list[Row]
    findings: list[Finding]
    """Empty: everything is in sync."""

    past: list[Finding]
    """The findings about earlier runs, which a new run cannot change."""

    without_client_address: list[Finding]
    """The findings about backends without the client's address, which only a deploy changes."""

    proven: Proven
    """The issuer's answer; blank if it cannot be asked."""

    renewal: list[str]
    """When the last hourly run was, and when and why each certificate is renewed next, as text."""

    seen_from: str
    notes: list[str]
    """Information that is no finding."""

    hint: str

    @property
    def awaited(self) -> list[str]:
        """The backends that a balancer readmits once its next checks pass."""
        return [row.name for row in self.rows if row.proven and "down" in row.pool]

    def text(self) -> str:
        """Return what a person reads."""
        lines = [report.table(self.rows)]
        if self.seen_from != self.fleet.issuer_name:
            lines.append("seen from this machine only: the issuer cannot be asked")
        lines += self.renewal
        lines += watch.history(self.proven, self.fleet)
        lines += self.notes
        if trust := report.trust_note(self.fleet):
            lines.append(trust)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as data for `json.dumps`."""
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
    """Return what every backend serves, and what every public address serves from here.

    Raises:
        FleetFileError: the fleet file has mistakes.
    """
    fleet = file.fleet
    # In parallel: each of them waits for other machines.
    with ThreadPoolExecutor(parallel.AT_ONCE) as pool:
        from_issuer = pool.submit(_answer, fleet)
        from_balancers = pool.submit(haproxy.ask, fleet)
        shown = _shown(fleet, pool, now) if fleet.passthrough else {}
        answer, findings = from_issuer.result()
        asked = from_balancers.result()
    seen_from = fleet.issuer_name if answer else "here"
    proven = answer or Proven()
    pools, unasked = _pools(fleet, asked)
    held, wrong_holders = _virtual(fleet, asked)
    rows, notes = list[Row](), list[str]()
    for each in fleet.lineages:
        proofs = _proofs(fleet, each, proven, now)
        through, unseen = _through(fleet, each, proofs, shown, now)
        more = [report.row(proof, pools.get(proof.name, "-"), now) for proof in proofs]
        more += [report.row(proof, "-", now) for proof in through]
        # The first lineage's rows show only their hosts' names.
        other = "" if each.name == fleet.name else each.name
        rows += [replace(row, lineage=other) for row in more]
        notes += unseen
    answers = {name: each for name, each in asked.items() if isinstance(each, Answer)}
    without_client_address = haproxy.without_client_address(fleet, answers)
    findings += unasked + wrong_holders + _findings(fleet, rows) + without_client_address
    past = watch.findings(proven, fleet, now) if answer else []
    # If the issuer cannot be asked, its hint comes first.
    hint = next((each.hint for each in findings if each.hint), HEALS)
    notes += held + _of_other_file(file, proven.origin)
    renewal = [line for line in (watch.last_run(proven, now), *watch.coming(proven, fleet)) if line]
    wrong = findings + past
    return Status(
        fleet, rows, wrong, past, without_client_address, proven, renewal, seen_from, notes, hint
    )  # fmt: skip


def _of_other_file(file: FleetFile, origin: Origin | None) -> list[str]:
    if origin is None or origin.sha256 == file.sha256:
        return []
    text = (
        f"the fleet was deployed from another version of {file.path.name}, on {origin.at} by "
        f"{origin.by}: deploy this one, or pull the newer one"
    )
    return [text]


def _proofs(fleet: Fleet, lineage: Lineage, proven: Proven, now: datetime) -> list[Proof]:
    """Return the issuer's proofs of a lineage; probe from here if it has none."""
    known = proven.proofs.get(lineage.name)
    return _from_here(fleet, lineage, now) if known is None else list(known.values())


def _from_here(fleet: Fleet, lineage: Lineage, now: datetime) -> list[Proof]:
    """Probe the backends from this machine, at the addresses it reaches them by."""
    wanted = proving.Expected(None, (), (), fleet.authority.roots)
    machines = [replace(each, private_address=each.address) for each in fleet.holders(lineage)]
    uncompared = "clients trust it; only the issuer knows which generation it is"
    return [
        replace(proof, why=uncompared) if proof.verdict is Verdict.BEHIND else proof
        for proof in proving.prove_with_key_exchange(machines, lineage.name, wanted, now)
    ]


def _answer(fleet: Fleet) -> tuple[Proven | None, list[Finding]]:
    """Return the issuer's answer, or None and the reason."""
    try:
        return issuer_side.proven(fleet, fleet.issuer), []
    except HostError as error:
        return None, [Finding(error.host, error.why, error.hint)]


def _shown(fleet: Fleet, pool: Executor, now: datetime) -> Shown:
    """Probe each public address from this machine, for each lineage."""
    port, roots = proving.TLS_PORT, fleet.authority.roots
    looks = {
        (each.name, address): (
            pool.submit(probe, address, port, each.name, roots, now),
            pool.submit(alt_svc.promise, address, port, each.name),
        )
        for each in fleet.lineages
        for address in fleet.public_addresses
    }
    return {where: (seen.result(), header.result()) for where, (seen, header) in looks.items()}


def _through(
    fleet: Fleet, lineage: Lineage, proofs: list[Proof], shown: Shown, now: datetime
) -> tuple[list[Proof], list[str]]:
    """Return a proof for each public address, and notes on those that cannot be probed from here.

    An address gets the verdict of the backend that serves the same certificate.
    """
    trusted = (Verdict.IN_SYNC, Verdict.BEHIND)
    served = {proof.fingerprint: proof for proof in proofs if proof.verdict in trusted}
    found, notes = list[Proof](), list[str]()
    for address in fleet.public_addresses if shown else ():
        seen, header = shown[lineage.name, address]
        if not notes and header:
            notes.append(alt_svc.note(lineage.name, header))
        if isinstance(seen, Unreachable) and seen.no_route:
            notes.append(f"{address}: not probed, this machine has no route to it")
            continue
        if isinstance(seen, Unreachable) and fleet.balancer.provider is Provider.NONE:
            # Only the provider's balancer knows whether its rule is on yet.
            notes.append(
                f"{address}: nothing answers on port 443; see `certsync rules` for what to set"
            )
            continue
        judged = judge(address, seen, (), (), None, now)
        same = served.get(judged.fingerprint)
        if judged.verdict is Verdict.BEHIND and same is not None:
            judged = replace(same, name=address)
        elif judged.verdict is Verdict.BEHIND:
            judged = replace(judged, why="it serves a different certificate than the backends")
        if judged.verdict in trusted and _drops_requests(fleet, lineage, address):
            why = proxy_protocol_check.finding(proxy_port(fleet) or proving.TLS_PORT)
            judged = replace(judged, verdict=Verdict.UNREACHABLE, why=why)
        found.append(judged)
    return found, notes


def _drops_requests(fleet: Fleet, lineage: Lineage, address: str) -> bool:
    """Return whether the backends drop requests from a provider's balancer."""
    if fleet.balancer.provider is not Provider.NONE:
        return False
    path = fleet.balancing.health_path
    return proxy_protocol_check.drops_requests(address, proving.TLS_PORT, lineage.name, path)


def _virtual(fleet: Fleet, asked: Asked) -> tuple[list[str], list[Finding]]:
    """Return a note on which balancer has the virtual addresses, and what is wrong with that."""
    seen = {name: each.addresses for name, each in asked.items() if isinstance(each, Answer)}
    held = vrrp.holders(fleet, seen)
    unasked = [name for name in asked if name not in seen]
    return [line for line in [vrrp.note(held)] if line], vrrp.findings(held, unasked)


def _pools(fleet: Fleet, asked: Asked) -> tuple[dict[str, str], list[Finding]]:
    """Return each backend's state in the pools, and the balancers that could not be asked."""
    unasked = [
        Finding(name, each.why) for name, each in asked.items() if isinstance(each, HostError)
    ]
    answers = {name: each.members for name, each in asked.items() if isinstance(each, Answer)}
    words = {}
    for host in fleet.backends:
        states = {name: each[host.name] for name, each in answers.items() if host.name in each}
        if states:
            words[host.name] = report.pool_words(states)
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
