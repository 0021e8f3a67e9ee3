"""The `acme` library's client, with the order fields that it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import josepy
import requests
from acme import client, errors, messages

from certsync.issuer.ca.issuance import problem
from certsync.issuer.ca.issuance.problem import translate_acme_errors
from certsync.model.errors import CaError

REFUSALS = range(400, 500)
"""HTTP statuses that reject our request; from 500 on the CA itself has a problem."""


class NewOrder(messages.NewOrder):
    """An order that says which certificate it replaces (RFC 9773 section 5)."""

    replaces: str = josepy.field("replaces", omitempty=True)


class Client(client.ClientV2):
    """A client whose next orders replace a certificate, if ``replaces`` names one."""

    replaces: str = ""
    placed: str = ""
    """The URL of the last order that the CA accepted."""

    on_placed: Callable[[str], None] = staticmethod(lambda _url: None)
    """Called with it at once."""

    def _post(self, url: str, obj: Any, *args: Any, **kwargs: Any) -> requests.Response:
        if self.replaces and isinstance(obj, messages.NewOrder):
            obj = NewOrder(identifiers=obj.identifiers, profile=obj.profile, replaces=self.replaces)
        response = super()._post(url, obj, *args, **kwargs)
        if isinstance(obj, messages.NewOrder):
            self.placed = response.headers.get("Location", "")
            if self.placed:
                self.on_placed(self.placed)
        return response


def new_order(
    acme: Client, csr: bytes, profile: str, replaces: str, tell: Callable[[str], None]
) -> messages.OrderResource:
    """Place an order; retry without ``replaces`` if the CA rejects it.

    Raises:
        CaError: the CA refuses.
        CaBusyError: it says when to come back.
    """
    with translate_acme_errors("placing the order"):
        if replaces:
            try:
                return _placed(acme, csr, profile, replaces)
            except (messages.Error, errors.ClientError) as refused:
                if acme.placed or _is_no_answer_to_it(acme.net, refused):
                    raise
                tell(f"the CA rejects `replaces` ({_reason(refused)}): ordering without it")
        return _placed(acme, csr, profile, "")


def _placed(acme: Client, csr: bytes, profile: str, replaces: str) -> messages.OrderResource:
    acme.replaces, acme.placed = replaces, ""
    try:
        return acme.new_order(csr, profile=profile or None)
    finally:
        acme.replaces = ""


def _is_no_answer_to_it(network: client.ClientNetwork, refused: Exception) -> bool:
    limited = isinstance(refused, messages.Error) and problem.kind(refused) == "rateLimited"
    return limited or getattr(network, "status", 0) not in REFUSALS


def _reason(refused: Exception) -> str:
    if isinstance(refused, messages.Error):
        return problem.describe(refused)
    return type(refused).__name__


WITHOUT_PROFILE = "ordering without one, because the live certificate expires soon"


def is_offered(acme: Client, profile: str) -> bool:
    """Return whether the CA's directory lists a profile; none at all is always offered."""
    return not profile or profile in _profiles(acme)


def _profiles(acme: Client) -> list[str]:
    return sorted(acme.directory["meta"].profiles or {})


def check_profile(
    acme: Client, wanted: str, tell: Callable[[str], None], *, insisting: bool
) -> None:
    """Refuse a profile that the CA's directory does not list; only report it if ``insisting``.

    Raises:
        CaError: it does not; the hint lists what it offers.
    """
    if is_offered(acme, wanted):
        return
    text = f'the CA offers no certificate profile "{wanted}"'
    if insisting:
        tell(f"warning: {text}: {WITHOUT_PROFILE}")
        return
    offered = _profiles(acme)
    raise CaError(
        text,
        f"set certificate.profile to one of: {', '.join(offered)}"
        if offered
        else "it offers none: remove certificate.profile",
    )
