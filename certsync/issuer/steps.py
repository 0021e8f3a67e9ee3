"""The steps of a renewal and of a compromise in their order, and how each of them is taken.

A dry run prints them, a real run takes them through `take`: no step is taken that is not listed.
After every one of them the power may go, and the next run goes on from what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

Result = TypeVar("Result")


class Step(str, Enum):
    """A step, in the words that a person reads."""

    LOOK = "look whether the disk takes it and a challenge would find its way"
    LOG_IN = "log in to the CA"
    PLACE = "place an order, or take up one that is open"
    VALIDATE = "have the names validated"
    SIGN = "have the certificate signed"
    KEEP = "keep it as a new generation"
    FORGET = "forget the order"
    STAGE = "stage the generation on every replica that lacks it"
    CHECK = "check it on every backend"
    ACTIVATE_ISSUER = "activate it on the issuer"
    ACTIVATE_REPLICAS = "activate it on every replica"
    PROVE = "prove that every backend serves it"
    SHARE = "have all backends share the session ticket keys"
    REMEMBER = "write down how it went"
    MARK = "note which private keys are compromised"
    REVOKE = "revoke the certificates of these keys"
    DISCARD = "delete these keys from every backend"


ISSUANCE = (
    Step.LOOK, Step.LOG_IN, Step.PLACE, Step.VALIDATE, Step.SIGN, Step.KEEP, Step.FORGET,
)  # fmt: skip
ROLLOUT = (Step.STAGE, Step.CHECK, Step.ACTIVATE_ISSUER, Step.ACTIVATE_REPLICAS, Step.PROVE)
RENEWAL = (*ISSUANCE, *ROLLOUT, Step.SHARE, Step.REMEMBER)
COMPROMISE = (
    Step.MARK, *ISSUANCE, *ROLLOUT, Step.SHARE, Step.REVOKE, Step.DISCARD, Step.REMEMBER,
)  # fmt: skip
"""The steps for a compromised key; a renewal finishes them where this was interrupted."""


def take(step: Step, work: Callable[[], Result]) -> Result:  # noqa: ARG001  # for who watches
    """Take a step and return what its work gives."""
    return work()
