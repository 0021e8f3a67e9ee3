"""`certsync status`: probe every backend from the issuer, and the public addresses from here."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from certsync.model import report
from certsync.model.answers import Origin, Proven
from certsync.model.errors import HostError
from certsync.model.finding import Finding
from certsync.model.fleet import Fleet, Lineage
from certsync.model.proof import Proof, Verdict
from certsync.model.report import Row
from certsync.operator.balancer import haproxy, vrrp
from certsync.operator.balancer.haproxy import Answer
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts import issuer_side
from certsync.operator.watching import load_balancer, public_addresses, watch
from certsync.operator.watching.public_addresses import Shown
from certsync.system import parallel, proving

HEALS = "run `certsync deploy` with the same fleet file: it repairs what it can reach"

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
        from_provider = pool.submit(load_balancer.look, fleet)
        shown = public_addresses.shown(fleet, pool, now) if fleet.passthrough else {}
        answer, findings = from_issuer.result()
        asked, provider = from_balancers.result(), from_provider.result()
    seen_from = fleet.issuer_name if answer else "here"
    proven = answer or Proven()
    pools, unasked = _pools(fleet, asked)
    pools |= provider.pools
    unasked += provider.findings
    held, wrong_holders = _virtual(fleet, asked)
    rows, notes = _of_lineages(fleet, proven, pools, shown, now, provider.is_open)
    answers = {name: each for name, each in asked.items() if isinstance(each, Answer)}
    without_client_address = haproxy.without_client_address(fleet, answers)
    without_client_address += provider.without_client_address
    findings += unasked + wrong_holders + _findings(fleet, rows) + without_client_address
    past = watch.findings(proven, fleet, now) if answer else []
    # If the issuer cannot be asked, its hint comes first.
    hint = next((each.hint for each in findings if each.hint), HEALS)
    notes += [*provider.notes, *held, *_of_other_file(file, proven.origin)]
    renewal = [line for line in (watch.last_run(proven, now), *watch.coming(proven, fleet)) if line]
    wrong = findings + past
    return Status(
        fleet, rows, wrong, past, without_client_address, proven, renewal, seen_from, notes, hint
    )  # fmt: skip


def _of_lineages(
    fleet: Fleet,
    proven: Proven,
    pools: Mapping[str, str],
    shown: Shown,
    now: datetime,
    is_open: bool | None,
) -> tuple[list[Row], list[str]]:
    """Return the table's rows, and notes on public addresses that could not be probed."""
    rows, notes = list[Row](), list[str]()
    for each in fleet.lineages:
        proofs = _proofs(fleet, each, proven, now)
        through, unseen = public_addresses.through(fleet, each, proofs, shown, now, is_open)
        more = [report.row(proof, pools.get(proof.name, "-"), now) for proof in proofs]
        more += [report.row(proof, "-", now) for proof in through]
        # The first lineage's rows show only their hosts' names.
        other = "" if each.name == fleet.name else each.name
        rows += [replace(row, lineage=other) for row in more]
        notes += unseen
    return rows, notes


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
