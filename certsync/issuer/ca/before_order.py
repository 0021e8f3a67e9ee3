"""What is looked at before an order, so that none is made that must fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certsync.issuer.ca.due import Outlook
from certsync.issuer.replicas import admission, receivers
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.run import Run, Tell
from certsync.issuer.schedule import (
    patience_ends,
)
from certsync.issuer.situation import Situation
from certsync.model.errors import (
    CanaryError,
    DnsError,
)
from certsync.model.fleet import Lineage
from certsync.model.generation import believed, next_free
from certsync.programs import receiver
from certsync.system import dns


def free_number(run: Run) -> int:
    """Return the first number above the issuer's own that no backend in reach has given away.

    An issuer that was set up anew begins with an empty archive, and its replicas do not: a number
    of theirs for another certificate would be refused by each. A replica may claim anything, so
    numbers are only passed over, and one that claims all of them is not believed.

    Raises:
        FencedError: a replica refuses the push key, so this may no longer be the issuer.
    """
    seen = run.seen
    own = max({*seen.numbers, *seen.barred}, default=0)
    with receivers.connected(seen.fleet, seen.holders) as backends:
        found = receivers.standings(seen.name, backends)
    admission.check_not_fenced(run, found)
    return next_free(own, believed(own, [claims(each) for each in found]))


def claims(standing: Standing) -> set[int]:
    """Return the numbers that a backend says it has given to a generation."""
    return {int(each) for each in standing.generations if receiver.NUMBER.fullmatch(str(each))}


def look_before_buying(seen: Situation, look: Outlook, now: datetime, tell: Tell) -> Lineage:
    """Check the disk, the names and the challenge's way, and return what an order is spent on.

    A miss stops a first order; a renewal it only delays, until half of the time from due to expiry
    is gone. Then it is reported, and the order is tried all the same; so it is where the key
    served is compromised.

    Raises:
        StoreError: the disk refuses.
        DnsError: a name does not lead to the fleet, and this is the first order for it.
        CanaryError: a challenge would be lost, and there is time.
    """
    seen.store.prove_writable()
    lineage = _with_names_that_lead_here(seen, look, tell)
    judgement = seen.challenge.look()
    for text in judgement.told:
        tell(f"warning: {text}")
    end = patience_ends(look.due, look.newest) if look.due else None
    has_time = not look.compromised and (end is None or now < end)
    if judgement.misses and has_time:
        until = f"; it is ordered all the same after {end:%Y-%m-%d %H:%M} UTC" if end else ""
        raise CanaryError(
            "a challenge would be lost, so nothing was ordered: "
            f"{'; '.join(judgement.misses)}{until}",
            "/.well-known/acme-challenge/ on port 80 of each backend has to lead to the issuer: "
            "run `certsync deploy` again, and look at what else answers there",
        )
    for text in judgement.misses:
        tell(f"warning: a challenge may be lost: {text}")
    return lineage


def _with_names_that_lead_here(seen: Situation, look: Outlook, tell: Tell) -> Lineage:
    """Return the lineage with the names to order; all of them, unless it would expire meanwhile.

    A name that was added to the fleet file and leads elsewhere stops the order for it, but must not
    take the names that are served already with it. A look-up that failed says nothing of a name:
    one that has a certificate already is ordered all the same.
    """
    lineage, due, newest = seen.lineage, look.due, look.newest
    wrong = dns.findings(seen.fleet, lineage.names, dns.look_up_all(lineage.names))
    for finding in wrong:
        tell(f"warning: {finding.message}")
    known = newest.names if newest else ()
    blocking = [each for each in wrong if each.stops or (each.unknown and each.name not in known)]
    stopping = {each.name: each.message for each in blocking}
    if due is None or not due.first or not stopping:
        return lineage
    served = newest.names if newest and due.since else ()
    # What a resolver does not know may be there for everybody else.
    lost = [each.name for each in blocking if each.elsewhere or each.name not in known]
    kept = tuple(name for name in lineage.names if name in served and name not in lost)
    if lineage.name in kept:
        if lost:
            tell(f"warning: it is renewed without {', '.join(lost)}")
        return replace(lineage, names=kept)
    if all(each.unknown for each in blocking):
        raise DnsError(
            f"DNS cannot be asked, so nothing was ordered: {'; '.join(stopping.values())}",
            "run the same command again; if it says so again, look at the resolver of "
            f"{seen.fleet.issuer_name} (/etc/resolv.conf), and at the names' DNSSEC",
        )
    raise DnsError(
        f"DNS does not lead to the balancer yet: {'; '.join(stopping.values())}",
        "set these records, then run the same command again:\n  "
        + "\n  ".join(dns.records(seen.fleet, lineage.names)),
    )
