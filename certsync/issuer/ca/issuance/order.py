"""One order at the CA, kept on disk while it is open, so that an interrupted run loses nothing.

`pending/NAME/` holds the private key and the signing request from before the order is placed, and
the order's URL from right after. The next run continues from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from acme import client, errors, messages

from certsync.issuer.ca.issuance import problem
from certsync.issuer.ca.issuance.client import Client, new_order
from certsync.issuer.ca.issuance.network import retry_after
from certsync.issuer.ca.issuance.pending import Pending
from certsync.issuer.ca.issuance.problem import translate_acme_errors
from certsync.issuer.challenge import Challenge
from certsync.model.errors import CaBusyError, CaError, CaSilentError, CertsyncError

MOST_CHAINS = 10
"""How many chains of one certificate are tried."""

DEADLINE = timedelta(minutes=5)
"""How long the CA may take to validate, and then to sign."""


def place(
    acme: Client, pending: Pending, profile: str, replaces: str, tell: Callable[[str], None]
) -> messages.OrderResource:
    """Return an earlier run's open order, or place a new one.

    ``replaces`` is the renewal identifier of the certificate that a new order replaces, or empty.

    Raises:
        CaError: the CA refuses.
        CaBusyError: it says when to come back.
    """
    csr = pending.csr.read_bytes()
    order = open_order(acme, pending, csr)
    if order is None:
        # Saved at once, before its authorizations are fetched: it is open from here on.
        acme.on_placed = pending.remember
        order = new_order(acme, csr, profile, replaces, tell)
    else:
        tell(f"resuming an earlier run's open order: {order.uri}")
    return order


def open_order(
    acme: client.ClientV2, pending: Pending, csr: bytes
) -> messages.OrderResource | None:
    """Return an earlier run's order if it can still be finished.

    Raises:
        CaSilentError: the CA cannot be reached; the order is kept.
    """
    url = pending.url()
    if not url:
        return None
    try:
        with translate_acme_errors("looking at the order of an earlier run"):
            body = _look(acme, url)
            # A certificate that only has to be fetched no longer needs authorizations.
            signed = body.status in (messages.STATUS_VALID, messages.STATUS_PROCESSING)
            wanted = () if signed else body.authorizations
            polled = [acme.poll(_authorization(each)) for each in wanted]
    except CaSilentError:
        raise
    except CaError:
        # Gone, or another account's: a new order replaces it.
        body = None
        polled = []
    found = [authorization for authorization, _response in polled]
    open_still = (messages.STATUS_PENDING, messages.STATUS_VALID)
    if (
        body is None
        or body.status == messages.STATUS_INVALID
        or any(each.body.status not in open_still for each in found)
    ):
        pending.forget_order()
        return None
    return messages.OrderResource(body=body, uri=url, authorizations=found, csr_pem=csr)


def _look(acme: client.ClientV2, url: str) -> messages.Order:
    # The library has no public way to fetch an order again.
    return messages.Order.from_json(acme._post_as_get(url).json())  # noqa: SLF001


def _authorization(url: str) -> messages.AuthorizationResource:
    return messages.AuthorizationResource(uri=url, body=messages.Authorization())


def is_over(acme: client.ClientV2, url: str) -> bool:
    """Return whether an order can no longer be finished."""
    try:
        with translate_acme_errors("looking at the order again"):
            return bool(_look(acme, url).status == messages.STATUS_INVALID)
    except CaError:
        return False


def validate(acme: client.ClientV2, order: messages.OrderResource, challenge: Challenge) -> None:
    """Answer the challenges of all pending authorizations, and wait for the CA.

    Raises:
        CaError: a validation failed, or took longer than ``DEADLINE``.
    """
    waiting = [each for each in order.authorizations if each.body.status == messages.STATUS_PENDING]
    chosen = {each.uri: _offered(each, challenge.kind) for each in waiting}
    answers = {}
    for uri, offered in chosen.items():
        answers[uri] = offered.response_and_validation(acme.net.key)
    files = {
        chosen[uri].chall.encode("token"): validation
        for uri, (_response, validation) in answers.items()
    }
    with challenge.present(files), translate_acme_errors("validating the names"):
        for uri, (response, _validation) in answers.items():
            acme.answer_challenge(chosen[uri], response)
        _await_all(acme, waiting)
    failed = [each for each in order.authorizations if each not in waiting and not _is_valid(each)]
    if failed:
        raise _validation_failed(failed)


def _is_valid(authorization: messages.AuthorizationResource) -> bool:
    return bool(authorization.body.status == messages.STATUS_VALID)


def _offered(authorization: messages.AuthorizationResource, kind: str) -> messages.ChallengeBody:
    for challenge in authorization.body.challenges:
        if challenge.chall.typ == kind:
            return challenge
    name = authorization.body.identifier.value
    raise CaError(f"the CA offers no {kind} challenge for {name}", "is it a wildcard name?")


def _await_all(acme: client.ClientV2, waiting: list[messages.AuthorizationResource]) -> None:
    end = datetime.now(timezone.utc) + DEADLINE
    left, failed = list(waiting), []
    while left:
        authorization, response = acme.poll(left[0])
        if authorization.body.status != messages.STATUS_PENDING:
            left.pop(0)
            if not _is_valid(authorization):
                failed.append(authorization)
            continue
        now = datetime.now(timezone.utc)
        if now > end:
            raise errors.TimeoutError
        time.sleep(
            min(retry_after(response, now, default=1), timedelta(seconds=30)).total_seconds()
        )
    if failed:
        raise _validation_failed(failed)


def _validation_failed(failed: list[messages.AuthorizationResource]) -> CertsyncError:
    parts, hint = [], ""
    for authorization in failed:
        for challenge in authorization.body.challenges:
            if challenge.error is not None:
                name = authorization.body.identifier.value
                parts.append(f"{name}: {problem.describe(challenge.error)}")
                hint = problem.hint_for(challenge.error, hint)
    reasons = "; ".join(parts) or "it gave no reason"
    return CaError(f"the CA could not validate the names: {reasons}", hint)


def finalize(acme: client.ClientV2, order: messages.OrderResource) -> messages.OrderResource:
    """Submit the signing request and return the order with the CA's full chain.

    Raises:
        CaError: the CA refuses to sign.
    """
    with translate_acme_errors("signing the certificate"):
        if order.body.status in (messages.STATUS_PENDING, messages.STATUS_READY):
            _begin(acme, order)
        # The library compares with a naive local time.
        return acme.poll_finalization(order, datetime.now() + DEADLINE)  # noqa: DTZ005


def alternatives(
    acme: client.ClientV2, order: messages.OrderResource, tell: Callable[[str], None]
) -> Iterator[str]:
    """Yield the CA's alternative chains, PEM, for a signed order (RFC 8555 section 7.4.2).

    Each is fetched when needed. A failure is reported, and the next one is tried.
    """
    try:
        with translate_acme_errors("asking for other chains"):
            # The library can only fetch all of them or none.
            links = acme._get_links(acme._post_as_get(order.body.certificate), "alternate")  # noqa: SLF001
    except (CaError, CaBusyError) as error:
        tell(f"warning: {error.message}")
        return
    for link in links[:MOST_CHAINS]:
        try:
            with translate_acme_errors("fetching another chain"):
                chain = str(acme._post_as_get(link).text)  # noqa: SLF001
        except (CaError, CaBusyError) as error:
            tell(f"warning: {error.message}")
        else:
            yield chain


def _begin(acme: client.ClientV2, order: messages.OrderResource) -> None:
    try:
        acme.begin_finalization(order)
    except messages.Error as error:
        # The order becomes ready a moment after its last authorization; polling finalizes it then.
        if error.code != "orderNotReady":
            raise
