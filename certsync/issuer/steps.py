"""The steps of a renewal and of a compromise, in order, and how each one is taken.

A dry run prints them, a real run takes them through `take`: no step is taken that is not listed.
The power may fail after any of them: the next run continues from what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

Result = TypeVar("Result")


class Step(str, Enum):
    """A step, as shown to people."""

    LOOK = "check the disk, and that a challenge would reach the issuer"
    LOG_IN = "log in to the CA"
    PLACE = "place an order, or resume an open one"
    VALIDATE = "let the CA validate the names"
    SIGN = "let the CA sign the certificate"
    KEEP = "keep it as a new generation"
    FORGET = "forget the order"
    STAGE = "stage the generation on every replica that lacks it"
    CHECK = "check it on every backend"
    ACTIVATE_ISSUER = "activate it on the issuer"
    ACTIVATE_REPLICAS = "activate it on every replica"
    PROVE = "prove that every backend serves it"
    SHARE = "share the session ticket keys among all backends"
    REMEMBER = "record the outcome"
    MARK = "record which private keys are compromised"
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
"""The steps for a compromised key; if interrupted, a renewal finishes them."""


def take(step: Step, work: Callable[[], Result]) -> Result:  # noqa: ARG001  # a hook for tests
    """Take a step and return its work's result."""
    return work()
