"""`certsync issue`, on the issuer: have a certificate for what the fleet asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from certsync import canary, dns, replication
from certsync.certificate import Certificate
from certsync.errors import CanaryError, DnsError
from certsync.fleet import Fleet
from certsync.generation import Manifest, next_number, number_text, target
from certsync.rollout import Standing
from certsync.schedule import Due, issuance_due
from certsync.store import Store, generation_files, sums

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outlook:
    """What issuing would do now."""

    fleet: Fleet
    newest: Manifest | None
    """The generation that is or will be live."""

    due: Due | None


def outlook(store: Store, now: datetime) -> Outlook:
    """Return whether an order is needed and why, without talking to the CA.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    manifests = store.manifests(fleet.lineage)
    live = store.current(fleet.lineage)
    number = target(manifests, store.withdrawn(fleet.lineage), live)
    newest = manifests[number] if number else None
    return Outlook(fleet, newest, issuance_due(newest, fleet, now))


def issue(store: Store, now: datetime, tell: Tell) -> int | None:
    """Order a certificate if one is due, and return its number; it is not live yet.

    Raises:
        DnsError: the names do not lead to the fleet.
        CanaryError: a challenge would be lost on its way.
        CaError, CaBusyError, ClockError: from the CA.
        StoreError: the disk refuses.
    """
    from certsync import issuance

    look = outlook(store, now)
    if look.due is None:
        return None
    fleet = look.fleet
    tell(f"a certificate is needed: {look.due.why}")
    store.prove_writable()
    look_before_buying(fleet, store, first=look.due.first, tell=tell)
    issued = issuance.obtain(fleet, store, now, tell)
    number = next_number(numbers_in_use(fleet, store))
    manifest = _manifest(fleet, number, issued.key, issued.certificate, issued.account)
    store.keep(manifest, issued.key, issued.certificate)
    issuance.forget(fleet, store)
    tell(
        f"generation {number_text(number)}: {manifest.fingerprint[:12]}, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )
    return number


def numbers_in_use(fleet: Fleet, store: Store) -> set[int]:
    """Return the numbers that any backend in reach has given to a generation.

    An issuer that was set up anew begins with an empty archive, and its replicas do not: a number
    of theirs for another certificate would be refused by each.
    """
    used = set(store.manifests(fleet.lineage))
    replication.open_runtime()
    for backend, found in replication.each(
        lambda one: one.standing(fleet.lineage), replication.backends(fleet)
    ):
        if isinstance(found, Standing):
            used |= {int(number) for number in found.generations if number.isdecimal()}
        backend.hang_up()
    return used


def look_before_buying(fleet: Fleet, store: Store, *, first: bool, tell: Tell) -> None:
    """Check names and challenge route; a miss stops a first order, and is told for another.

    Raises:
        DnsError: a name does not lead to the fleet, and this is the first order.
        CanaryError: a challenge would be lost, and this is the first order.
    """
    answers = {name: dns.look_up(name) for name in fleet.names}
    wrong = dns.findings(fleet, answers)
    for finding in wrong:
        tell(f"warning: {finding.message}")
    if first and any(finding.stops for finding in wrong):
        stopping = "; ".join(finding.message for finding in wrong if finding.stops)
        raise DnsError(
            f"DNS does not lead to the balancer yet: {stopping}",
            "set these records, then run the same command again:\n  "
            + "\n  ".join(dns.records(fleet)),
        )
    judgement = canary.judge(fleet, canary.look(fleet, store.webroot))
    for text in judgement.told:
        tell(f"warning: {text}")
    if judgement.misses and first:
        raise CanaryError(
            f"a challenge would be lost, so nothing was ordered: {'; '.join(judgement.misses)}",
            "/.well-known/acme-challenge/ on port 80 of each backend has to lead to the issuer: "
            "run `certsync deploy` again, and look at what else answers there",
        )
    for text in judgement.misses:
        tell(f"warning: a challenge may be lost: {text}")


def _manifest(
    fleet: Fleet, number: int, key: bytes, certificate: Certificate, account: str
) -> Manifest:
    return Manifest(
        lineage=fleet.lineage,
        number=number,
        names=certificate.names,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        key_type=fleet.key_type.value,
        directory=fleet.authority.directory,
        account=account,
        files=sums(generation_files(key, certificate)),
    )
