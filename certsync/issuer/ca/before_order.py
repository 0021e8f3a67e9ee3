"""Checks before an order, so that none is placed that must fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from certsync.issuer import guards
from certsync.issuer.ca.due import Outlook
from certsync.issuer.replicas import admission, receivers, rollout
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
from certsync.model.generation import Manifest, believed, next_free
from certsync.system import dns
from certsync.system.dns import DnsFinding


def free_number(run: Run) -> int:
    """Return the first number above the issuer's own that no reachable backend has used.

    A reinstalled issuer starts with an empty archive, but its replicas do not: each would refuse a
    different certificate under a number it already has. A replica may claim anything, so numbers
    are only skipped, and a replica that claims all of them is not believed.

    Raises:
        FencedError: a replica refuses the push key, so this may no longer be the issuer.
    """
    seen = run.seen
    own = max({*seen.numbers, *seen.barred}, default=0)
    with receivers.connected(seen.fleet, seen.holders) as backends:
        found = receivers.standings(seen.name, backends, run.patience)
    admission.check_not_fenced(run, found)
    return next_free(own, believed(own, [rollout.claims(each) for each in found]))


def look_before_buying(run: Run, look: Outlook) -> Lineage:
    """Check disk, names and the challenge's path, and return what to order.

    A problem with the path stops a first order, but only delays a renewal until half of the time
    from due to expiry has passed. After that, or if the served key is compromised, it is reported
    and the order is placed anyway.

    Raises:
        StoreError: the disk cannot be written.
        DnsError: a name does not resolve to the fleet, and this is the first order for it.
        CanaryError: a challenge would not reach the issuer, and there is time.
    """
    seen, tell, now = run.seen, run.tell, run.now
    seen.store.prove_writable()
    end = _patience_ends(run, look)
    late = end is not None and now >= end
    lineage = _with_names_that_lead_here(seen, look, tell, late=late)
    judgement = seen.challenge.look()
    for text in judgement.told:
        tell(f"warning: {text}")
    has_time = not look.compromised and not late
    if judgement.misses and has_time:
        until = f"; it is ordered anyway after {end:%Y-%m-%d %H:%M} UTC" if end else ""
        raise CanaryError(
            "nothing was ordered, because a challenge would not reach the issuer: "
            f"{'; '.join(judgement.misses)}{until}",
            "port 80 of each backend must forward /.well-known/acme-challenge/ to the issuer: "
            "run `certsync deploy` again, and check what else answers there",
        )
    for text in judgement.misses:
        tell(f"warning: a challenge may not reach the issuer: {text}")
    return lineage


def _patience_ends(run: Run, look: Outlook) -> datetime | None:
    """Return until when an order may wait; None: nothing that is served would expire."""
    if look.newest is None:
        return guards.guards_end(run)
    return patience_ends(look.due, look.newest) if look.due else None


def _with_names_that_lead_here(
    seen: Situation, look: Outlook, tell: Tell, *, late: bool
) -> Lineage:
    """Return the lineage with the names to order: all, unless waiting would let it expire.

    A new name that resolves elsewhere stops an order, but must not block the renewal of names that
    are served already. A failed lookup proves nothing: a name that has a certificate is ordered
    anyway. If it is ``late``, so is one that seems to lead elsewhere: our resolver may be wrong.
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
    # What our resolver cannot find may exist for everybody else.
    lost = [each.name for each in blocking if each.elsewhere or each.name not in known]
    kept = tuple(name for name in lineage.names if name in served and name not in lost)
    if lineage.name in kept:
        if lost:
            tell(f"warning: renewing without {', '.join(lost)}")
        return replace(lineage, names=kept)
    if late:
        return _with_served_names(lineage, newest, tell)
    if all(each.unknown for each in blocking):
        raise DnsError(
            f"nothing was ordered: {'; '.join(stopping.values())}",
            "run the same command again; if it keeps failing, check the resolver of "
            f"{seen.fleet.issuer_name} (/etc/resolv.conf) and the names' DNSSEC",
        )
    raise DnsError(
        f"DNS does not point to the balancer yet: {'; '.join(stopping.values())}",
        _what_to_set(seen, lineage, blocking),
    )


def _what_to_set(seen: Situation, lineage: Lineage, wrong: Sequence[DnsFinding]) -> str:
    lines = ["set these records, then run the same command again:"]
    lines += [f"  {each}" for each in dns.records(seen.fleet, lineage.names)]
    name = next(each.name for each in wrong if not each.unknown)
    lines.append(
        f"if they are set, {seen.fleet.issuer_name} does not see them: look at its /etc/hosts and "
        f"its resolver; `getent ahosts {name}` there shows what it finds"
    )
    return "\n".join([*lines, *([dns.NO_PROXY] if any(each.elsewhere for each in wrong) else [])])


def _with_served_names(lineage: Lineage, newest: Manifest | None, tell: Tell) -> Lineage:
    """Return the lineage with the names that have a certificate; with all, if its first has not."""
    served = tuple(name for name in lineage.names if newest and name in newest.names)
    names = served if lineage.name in served else lineage.names
    tell(f"warning: ordering for {', '.join(names)} anyway: what is served expires soon")
    return replace(lineage, names=names)
