"""A simulated CA: what it is asked by the engine, and what it answers in its mood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certsync.issuer.ca.ari import Answer
from certsync.issuer.ca.issuance.pending import Pending
from certsync.model.errors import CaBusyError, CaError, CaSilentError
from certsync.model.generation import Manifest
from tests.simulation.certificates import Nonsense, Signer, full_chain

WEEK = timedelta(days=7)
SAME_NAMES_A_WEEK = 5
"""Certificates for the same set of names that Let's Encrypt signs in seven days."""


@dataclass
class Mood:
    """What the CA does at the moment, besides what it should."""

    silent: bool = False
    busy_until: datetime | None = None
    refuses: str = ""
    """The problem type with which it refuses an order."""

    fails_validation: bool = False
    refuses_to_sign: str = ""
    nonsense: Nonsense | None = None
    window: Any = None
    """What it says of a certificate's renewal window; None: nothing is suggested."""

    @property
    def would_issue(self) -> bool:
        """Whether an order would end with a certificate that clients take."""
        return not (
            self.silent or self.busy_until or self.refuses or self.fails_validation
            or self.refuses_to_sign or self.nonsense
        )  # fmt: skip


@dataclass
class Order:
    """One order, for one machine."""

    uri: str
    by: str
    issuer: str
    """Who was the issuer then."""

    csr: bytes
    names: list[str]
    at: datetime
    chain: str = ""
    over: bool = False


@dataclass
class Ca:
    """The CA, with all that it was asked."""

    signer: Signer
    other: Signer
    lifetime: timedelta
    mood: Mood = field(default_factory=Mood)
    orders: list[Order] = field(default_factory=list)
    blocked: set[bytes] = field(default_factory=set)
    """Public keys that it refuses for ever."""

    refused_by_limit: list[datetime] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    """Fingerprints."""

    def place(
        self, by: str, issuer: str, pending: Pending, names: list[str], now: datetime,
        *, replaces: bool,
    ) -> Order:  # fmt: skip
        """Take up an order that is open, or take a new one."""
        self.answer(now)
        csr, url = pending.csr.read_bytes(), pending.url()
        found = next((each for each in self.orders if each.uri == url and not each.over), None)
        if found is not None:
            return found
        pending.forget_order()
        if not replaces and len(self.signed_within(WEEK, now)) >= SAME_NAMES_A_WEEK:
            self.refused_by_limit.append(now)
            oldest = self.signed_within(WEEK, now)[0].at
            raise CaBusyError("the CA refuses: rateLimited", "", oldest + WEEK)
        if self.mood.refuses:
            raise CaError(f"the CA refuses: {self.mood.refuses}\x1b[2J", "", self.mood.refuses)
        order = Order(f"https://ca.example/order/{len(self.orders)}", by, issuer, csr, names, now)
        self.orders.append(order)
        pending.remember(order.uri)
        return order

    def validate(self, order: Order, now: datetime, *, leads_here: bool) -> None:
        """Look for the challenge."""
        self.answer(now)
        if self.mood.fails_validation or not leads_here:
            order.over = True
            raise CaError("the CA could not validate: unauthorized", "", "unauthorized")

    def finalize(self, order: Order, now: datetime) -> SimpleNamespace:
        """Sign."""
        self.answer(now)
        if self.mood.refuses_to_sign or public_key(order.csr) in self.blocked:
            problem = self.mood.refuses_to_sign or "badPublicKey"
            if problem in ("badPublicKey", "badCSR"):
                self.blocked.add(public_key(order.csr))
            order.over = True
            raise CaError(f"the CA does not sign: {problem}", "", problem)
        if not order.chain:
            begin = now - timedelta(hours=1)
            order.chain = full_chain(
                self.signer, self.other, order.csr, order.names, begin, self.lifetime,
                self.mood.nonsense,
            )  # fmt: skip
        return SimpleNamespace(fullchain_pem=order.chain, uri=order.uri)

    def renewal_info(self, generation: Manifest, now: datetime) -> Answer:
        """Say when it suggests to renew."""
        if self.mood.silent:
            raise CaSilentError("the CA cannot be reached")
        window = self.mood.window
        if callable(window):
            window = window(generation, now)
        if window is None:
            third = (generation.not_after - generation.not_before) / 3
            start = generation.not_after - third
            window = {
                "start": start.isoformat(), "end": (start + timedelta(days=2)).isoformat(),
            }  # fmt: skip
        if generation.fingerprint in self.revoked:
            past = generation.not_before
            window = {
                "start": past.isoformat(), "end": (past + timedelta(hours=1)).isoformat(),
            }  # fmt: skip
        return Answer({"suggestedWindow": window}, timedelta(hours=6), now)

    def answer(self, now: datetime) -> None:
        """Refuse to talk, in the mood for it."""
        if self.mood.silent:
            raise CaSilentError("the CA cannot be reached")
        if self.mood.busy_until:
            raise CaBusyError("the CA says: later", "", max(self.mood.busy_until, now))

    def would_issue(self, now: datetime) -> bool:
        """Return whether an order would end with a certificate that clients take."""
        is_free = len(self.signed_within(WEEK, now)) < SAME_NAMES_A_WEEK
        return self.mood.would_issue and is_free

    def signed_within(self, span: timedelta, now: datetime) -> list[Order]:
        """Return the orders with a certificate of the last while."""
        return [each for each in self.orders if each.chain and now - each.at < span]

    def others(self) -> Iterator[str]:
        """Give other chains: none."""
        yield from ()


def public_key(csr: bytes) -> bytes:
    """Return the key that a signing request, PEM, is for."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return x509.load_pem_x509_csr(csr).public_key().public_bytes(encoding, form)
