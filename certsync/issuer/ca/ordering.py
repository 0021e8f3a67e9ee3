"""`certsync issue`, on the issuer: have a certificate for what the fleet asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from certsync.issuer import canary, steps, webroot
from certsync.issuer.backoff import KEY_PROBLEMS, Tries
from certsync.issuer.ca import registration
from certsync.issuer.replicas import admission, receivers
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.schedule import (
    Due,
    NextRenewal,
    Withdrawal,
    issuance_due,
    last_chance,
    patience_ends,
    renewal,
    young_until,
)
from certsync.issuer.state import Lineage
from certsync.issuer.steps import Step
from certsync.issuer.store import Store, generation_files, sums
from certsync.model.errors import (
    CaBusyError,
    CaError,
    CanaryError,
    CertsyncError,
    DnsError,
    HostError,
    LaterError,
    OrderFailedError,
    TooSoonError,
    as_certsync_error,
)
from certsync.model.fleet import SYSTEM_ROOTS, Fleet
from certsync.model.generation import Manifest, believed, next_free, number_text
from certsync.programs import receiver
from certsync.system import dns

if TYPE_CHECKING:
    # Its libraries are loaded when an order is made, not at every hourly run.
    from certsync.issuer.ca.issuance import Issued, Request

Tell = Callable[[str], None]

DROP_REPLACES_AFTER = 2
"""Failures after which an order no longer says which certificate it replaces: that alone may be
what the CA stumbles over."""

ABANDONING = 3
"""Failures after which an order that is still open is given up: its certificate may be one that
nobody can fetch."""


@dataclass(frozen=True)
class Outlook:
    """What issuing would do now."""

    fleet: Fleet
    newest: Manifest | None
    """The generation that is or will be live."""

    due: Due | None
    coming: NextRenewal | None
    """When the newest generation is to be renewed; None: there is none."""

    lineage: Lineage
    """What is remembered of it."""

    compromised: str = ""
    """Why the newest one must not be served any longer: its key, or a revocation; empty: it may."""

    account: str = ""
    """Why the account could not order, whether an order is due or not; empty: it could."""

    @property
    def reasons(self) -> list[str]:
        """What would be done and why, in words; empty: nothing."""
        if self.due:
            return [self.due.why]
        return [f"no order, but {self.account}: registering at the CA"] if self.account else []

    def next(self, now: datetime) -> NextRenewal | None:
        """Return when an unattended run orders next, after failures no sooner than they allow."""
        again = self.lineage.tries.of(wish(self.fleet)).next(now)
        if self.coming is None or again <= max(self.coming.moment, now):
            return self.coming
        return NextRenewal(again, f"the last try failed: {self.lineage.tries.error}")


def outlook(store: Store, now: datetime, *, force: bool = False) -> Outlook:
    """Return whether an order is needed and why, without talking to the CA.

    Raises:
        StoreError: this host is no issuer, or its store cannot be read.
    """
    fleet = store.fleet()
    manifests = store.manifests(fleet.lineage)
    number = store.target(fleet.lineage)
    marks = store.compromised(fleet.lineage)
    if number is None and (live := store.current(fleet.lineage)) in manifests:
        # It must not go live again, and nothing better is there yet: the next one follows it.
        number = live
    newest = manifests[number] if number else None
    compromised = marks.why(number) if number else ""
    known = store.recall().lineage(fleet.lineage)
    if newest is not None and known.revoked == newest.fingerprint and now >= young_until(newest):
        # A CA that revokes every new one at once would get an order every hour.
        compromised = compromised or f"the CA has revoked generation {number_text(newest.number)}"
    withdrawal = _withdrawal(store, fleet.lineage, manifests, number or 0, now)
    every = timedelta(hours=fleet.renewal.every_hours)
    hurried = datetime.fromisoformat(known.hurried) if known.hurried else None
    due = issuance_due(newest, fleet, now, known.advice, withdrawal, hurried, compromised)
    if due is None and force:
        due = Due("it was asked for", first=False)
    coming = renewal(newest, known.advice, every, now, withdrawal, hurried) if newest else None
    if compromised:
        coming = NextRenewal(now, compromised)
    return Outlook(fleet, newest, due, coming, known, compromised, _account(fleet, store, newest))


def _account(fleet: Fleet, store: Store, newest: Manifest | None) -> str:
    directory = fleet.authority.directory
    expected = newest is not None and newest.directory == directory and bool(newest.account)
    return registration.finding(store.account(directory), expected=expected)


def has_something(store: Store) -> bool:
    """Return whether one of several lineages has a certificate, whatever the others lack."""
    stores = store.lineages()
    return len(stores) > 1 and any(one.target(one.lineage) is not None for one in stores)


def _withdrawal(
    store: Store, lineage: str, manifests: Mapping[int, Manifest], number: int, now: datetime
) -> Withdrawal | None:
    """Return the rollback that led to a generation, or None if none did."""
    newer = {each: at for each, at in store.withdrawn(lineage).items() if each > number}
    if not newer:
        return None
    return Withdrawal(min(max(newer.values()), now), manifests.get(max(newer)))


def issue(
    store: Store, now: datetime, tell: Tell, *, interactive: bool = True, force: bool = False
) -> int | None:
    """Order a certificate if one is due, and return its number; it is not live yet.

    ``interactive`` says that somebody is there to read the answer: only the CA's limits make them
    wait, and not the longer pauses of unattended runs. How it ended is remembered.

    Raises:
        DnsError: the names do not lead to the fleet.
        CanaryError: a challenge would be lost on its way.
        FencedError: a replica refuses the push key.
        CaError, CaBusyError, TooSoonError, ClockError: from the CA, or before asking it again.
        StoreError: the disk refuses.
    """
    look = outlook(store, now, force=force)
    _tidy(look.fleet, store)
    if look.due is None:
        if look.account:
            _enroll(look, store, now, tell, interactive=interactive)
        return None
    tries = look.lineage.tries.of(wish(look.fleet))
    _wait_after_failures(tries, now, interactive=interactive or force)
    tell(f"a certificate is needed: {look.due.why}")
    fleet, free = steps.take(Step.LOOK, lambda: _looked(look, store, now, tell))
    from certsync.issuer.ca import issuance

    request = _request(look, tries, store, now)
    try:
        issued = issuance.obtain(fleet, store, now, tell, request)
    except Exception as error:
        # Every failure is a try: one that is not noted would be made again every hour.
        _note(store, fleet, _after(tries, as_certsync_error(error), now), now)
        raise
    number = _kept(fleet, free, issued, store, tell)
    if refused := _refused_here(fleet, number, store, now):
        _remember(store, fleet, _after(tries, refused, now), now)
        raise refused
    _remember(store, fleet, Tries(), now, hurried=_is_hurried(look, now))
    return number


def _enroll(look: Outlook, store: Store, now: datetime, tell: Tell, *, interactive: bool) -> None:
    """Register at the CA though nothing is due: when something is, it may be too late."""
    from certsync.issuer.ca import issuance

    tries = look.lineage.tries.of(wish(look.fleet))
    _wait_after_failures(tries, now, interactive=interactive)
    tell(f"warning: {look.account}")
    try:
        account = issuance.register(look.fleet, store, tell)
    except Exception as error:
        # As with an order: one that is not noted would be made again every hour.
        _note(store, look.fleet, _after(tries, as_certsync_error(error), now), now)
        raise
    _remember(store, look.fleet, Tries(orders=tries.orders, wish=tries.wish), now)
    tell(f"registered at the CA: account {account}")


def _request(look: Outlook, tries: Tries, store: Store, now: datetime) -> Request:
    """Return how to order after these failures."""
    from certsync.issuer.ca import issuance

    authority = look.fleet.authority
    end = last_chance(look.newest)
    return issuance.Request(
        before=look.newest,
        replacing=tries.count < DROP_REPLACES_AFTER,
        new_key=bool(look.compromised) or tries.problem in KEY_PROBLEMS,
        anew=tries.count >= ABANDONING,
        roots=str(store.roots) if authority.roots else SYSTEM_ROOTS,
        insisting=end is not None and now >= end,
    )


def _note(store: Store, fleet: Fleet, tries: Tries, now: datetime) -> None:
    """Remember failures where the disk takes it; what has failed is what people hear of."""
    with contextlib.suppress(OSError):
        _remember(store, fleet, tries, now)


def _is_hurried(look: Outlook, now: datetime) -> bool:
    """Return whether only the CA's advice has had so young a certificate renewed."""
    by_time = look.due is not None and look.due.since is not None
    return by_time and look.newest is not None and now < young_until(look.newest)


def _tidy(fleet: Fleet, store: Store) -> None:
    """Remove what a killed run left behind, keys above all: the next order may be months away."""
    receivers.remove_outbox()
    webroot.clear(store.webroot)
    if store.pending(fleet.lineage).exists():
        from certsync.issuer.ca import issuance

        issuance.forget_if_kept(fleet, store)


def _wait_after_failures(tries: Tries, now: datetime, *, interactive: bool) -> None:
    moment = tries.next_by_person(now) if interactive else tries.next(now)
    if moment <= now:
        return
    again = f"it is tried again after {moment:%Y-%m-%d %H:%M:%S} UTC"
    if interactive or tries.exit_status == LaterError.exit_status:
        raise TooSoonError(f"{tries.error}; {again}", "nothing is lost: the same command continues")
    raise CaError(f"{tries.error}; {again}", tries.hint or "`certsync renew --force` does not wait")


def wish(fleet: Fleet) -> str:
    """Return what the fleet file asks the CA for: a failure counts for the same wish only."""
    asked = (fleet.authority.directory, *fleet.names, fleet.key_type.value, fleet.profile)
    return " ".join(asked)


def _after(tries: Tries, error: CertsyncError, now: datetime) -> Tries:
    found = tries.failed(
        now,
        error.message,
        error.hint,
        error.exit_status,
        order=isinstance(error, OrderFailedError),
        ca_said=error.until if isinstance(error, CaBusyError) else None,
    )
    # Kept until a certificate is there: the refused key would be refused again.
    problem = error.problem if isinstance(error, CaError) else ""
    is_kept = tries.problem in KEY_PROBLEMS
    return replace(found, problem=tries.problem if is_kept else problem)


def _remember(
    store: Store, fleet: Fleet, tries: Tries, now: datetime, *, hurried: bool = False
) -> None:
    state = store.recall()
    known = replace(state.lineage(fleet.lineage), tries=tries)
    if hurried:
        known = replace(known, hurried=now.isoformat())
    store.remember(state.having(fleet.lineage, known))


def _looked(look: Outlook, store: Store, now: datetime, tell: Tell) -> tuple[Fleet, int]:
    """Return what an order is spent on, and the number for what comes of it."""
    # First who is asked may say that another backend is the issuer: then challenges go there too.
    free = free_number(look.fleet, store, now)
    return look_before_buying(look, store, now, tell), free


def _kept(fleet: Fleet, number: int, issued: Issued, store: Store, tell: Tell) -> int:
    """Keep what the CA has signed as a new generation, and return its number."""
    from certsync.issuer.ca import issuance

    manifest = _manifest(fleet, number, issued)
    steps.take(Step.KEEP, lambda: store.keep(manifest, issued.key, issued.certificate))
    steps.take(Step.FORGET, lambda: issuance.forget(fleet, store))
    tell(
        f"generation {number_text(manifest.number)}: {manifest.fingerprint[:12]}, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )
    return manifest.number


def _refused_here(
    fleet: Fleet, number: int, store: Store, now: datetime
) -> OrderFailedError | None:
    """Return the error for what this host's own receiver refuses; None: it does not refuse it.

    It would go live nowhere, and must not look as if a valid certificate were there. What else its
    receiver says, or that it says nothing, the rollout tells. Where the live certificate is about
    to expire, the replicas may take it all the same.
    """
    end = last_chance(store.live_manifest(fleet.lineage))
    if end is not None and now >= end:
        return None
    with receivers.connected(fleet) as backends:
        answers = receivers.each(lambda one: one.ask("check", fleet.lineage, number), backends[:1])
    answer = answers[0][1]
    if isinstance(answer, HostError) or answer.ok or not answer.of_content:
        return None
    why = answer.why
    store.refuse(fleet.lineage, number, why)
    return OrderFailedError(
        f"{fleet.issuer_name}, the issuer, refuses generation {number_text(number)}, which was "
        f"just ordered: {why}",
        "another one is ordered in a day, or with `certsync renew --force`; what was served before "
        "goes on being served",
    )


def free_number(fleet: Fleet, store: Store, now: datetime) -> int:
    """Return the first number above the issuer's own that no backend in reach has given away.

    An issuer that was set up anew begins with an empty archive, and its replicas do not: a number
    of theirs for another certificate would be refused by each. A replica may claim anything, so
    numbers are only passed over, and one that claims all of them is not believed.

    Raises:
        FencedError: a replica refuses the push key, so this may no longer be the issuer.
    """
    lineage = fleet.lineage
    own = max({*store.numbers(lineage), *store.barred(lineage)}, default=0)
    with receivers.connected(fleet) as backends:
        found = receivers.standings(fleet.lineage, backends)
    admission.check_not_fenced(store, fleet, found, now)
    return next_free(own, believed(own, [claims(each) for each in found]))


def claims(standing: Standing) -> set[int]:
    """Return the numbers that a backend says it has given to a generation."""
    return {int(each) for each in standing.generations if receiver.NUMBER.fullmatch(str(each))}


def look_before_buying(look: Outlook, store: Store, now: datetime, tell: Tell) -> Fleet:
    """Check the disk, the names and the challenge's way, and return what an order is spent on.

    A miss stops a first order; a renewal it only delays, until half of the time from due to expiry
    is gone. Then it is told, and the order is tried all the same; so it is where the key that is
    served is in wrong hands.

    Raises:
        StoreError: the disk refuses.
        DnsError: a name does not lead to the fleet, and this is the first order for it.
        CanaryError: a challenge would be lost, and there is time.
    """
    store.prove_writable()
    fleet = _with_names_that_lead_here(look, tell)
    judgement = canary.judge(fleet, canary.look(fleet, store.webroot))
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
    return fleet


def _with_names_that_lead_here(look: Outlook, tell: Tell) -> Fleet:
    """Return the fleet with the names to order; all of them, unless it would expire meanwhile.

    A name that was added to the fleet file and leads elsewhere stops the order for it, but must not
    take the names that are served already with it. A look-up that failed says nothing of a name:
    one that has a certificate already is ordered all the same.
    """
    fleet, due, newest = look.fleet, look.due, look.newest
    wrong = dns.findings(fleet, dns.look_up_all(fleet.names))
    for finding in wrong:
        tell(f"warning: {finding.message}")
    known = newest.names if newest else ()
    blocking = [each for each in wrong if each.stops or (each.unknown and each.name not in known)]
    stopping = {each.name: each.message for each in blocking}
    if due is None or not due.first or not stopping:
        return fleet
    served = newest.names if newest and due.since else ()
    # What a resolver does not know may be there for everybody else.
    lost = [each.name for each in blocking if each.elsewhere or each.name not in known]
    kept = tuple(name for name in fleet.names if name in served and name not in lost)
    if fleet.lineage in kept:
        if lost:
            tell(f"warning: it is renewed without {', '.join(lost)}")
        return replace(fleet, names=kept)
    if all(each.unknown for each in blocking):
        raise DnsError(
            f"DNS cannot be asked, so nothing was ordered: {'; '.join(stopping.values())}",
            "run the same command again; if it says so again, look at the resolver of "
            f"{fleet.issuer_name} (/etc/resolv.conf), and at the names' DNSSEC",
        )
    raise DnsError(
        f"DNS does not lead to the balancer yet: {'; '.join(stopping.values())}",
        "set these records, then run the same command again:\n  " + "\n  ".join(dns.records(fleet)),
    )


def _manifest(fleet: Fleet, number: int, issued: Issued) -> Manifest:
    certificate = issued.certificate
    return Manifest(
        lineage=fleet.lineage,
        number=number,
        names=certificate.names,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        key_type=fleet.key_type.value,
        directory=fleet.authority.directory,
        account=issued.account,
        files=sums(generation_files(issued.key, certificate)),
        order=issued.order,
        renewal_id=certificate.renewal_id,
        asked=tuple(sorted(fleet.names)),
    )
