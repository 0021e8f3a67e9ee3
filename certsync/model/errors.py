"""Every error that certsync reports to people, as one tree.

    CertsyncError                  exit 1   something failed
    ├── FleetFileError             exit 2   the fleet file has mistakes; all are listed
    ├── RefusedError               exit 1   somebody else's server: nothing was changed
    ├── HostError                  exit 1   a command on a host, or here, failed
    │   └── UnreachableError                the host cannot be reached: it has no vote
    │       ├── SilentError                 nothing answers
    │       └── KeyRefusedError             it answers, but refuses our SSH key
    ├── StoreError                 exit 1   files on disk are missing, wrong or cannot be written
    │   ├── BrokenStateError                a state file is corrupt
    │   └── NewerSchemaError                a newer certsync wrote it
    ├── ClockError                 exit 1   this machine's clock is too far from the CA's
    ├── CanaryError                exit 1   a challenge would not reach the issuer
    ├── CaError                    exit 1   the CA refuses
    │   ├── OrderFailedError                an order was placed, but failed
    │   │   └── UnusableError               its certificate cannot be served
    │   └── CaSilentError                   it cannot be reached, or its answer is invalid
    ├── FencedError                exit 1   replicas refuse this issuer's push key
    │   └── ClonedError                     this machine is a copy of the issuer
    ├── RolloutError               exit 1   a backend does not hold or serve the generation
    │   └── VetoError                       it was activated nowhere
    │       └── OutdatedError               it is older than what is served, or revoked
    ├── TicketsError               exit 1   a backend does not share the session ticket keys
    ├── NotifyError                exit 1   a message cannot be sent, or a service rejected it
    ├── WrongError                 exit 3   the check found a backend that serves something else
    └── LaterError                 exit 75  not now; run the same command later
        ├── LockHeldError                   another run is changing the fleet
        ├── CaBusyError                     the CA asked to come back later
        ├── TooSoonError                    recent failures say to wait
        └── DnsError                        the names do not resolve to the balancer yet

The message says what and where, the hint what to try. Foreign errors are translated where they
enter: subprocess's in `process`, OpenSSH's in `ssh`, the CA's in `issuance`, the file system's in
`store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


class CertsyncError(Exception):
    """An error to report to people. The message says what and where."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Mistake:
    """One mistake in a fleet file."""

    place: str
    """The key, dotted from the top (`backends.web-2.address`), or `line 7`."""

    message: str
    """What is wrong there."""

    hint: str = ""
    """What to write instead."""


class FleetFileError(CertsyncError):
    """The fleet file cannot be used. ``mistakes`` lists everything found."""

    exit_status = 2

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{path} has {count}")
        self.path = path
        self.mistakes = mistakes


class RefusedError(CertsyncError):
    """A server belongs to somebody else; nothing was changed on any host."""


class HostError(CertsyncError):
    """A command on a host failed. ``host`` names it; empty: this machine."""

    def __init__(self, why: str, hint: str = "", *, host: str = "") -> None:
        super().__init__(f"{host}: {why}" if host else why, hint)
        self.why = why
        self.host = host


class UnreachableError(HostError):
    """A host cannot be reached."""


class SilentError(UnreachableError):
    """Nothing answers at a host's address."""


class KeyRefusedError(UnreachableError):
    """A host answers, but refuses our SSH key."""


class StoreError(CertsyncError):
    """Files on disk are missing, wrong or cannot be written."""


class BrokenStateError(StoreError):
    """A state file is corrupt: truncated, or edited by hand."""


class NewerSchemaError(StoreError):
    """A newer certsync wrote it, and this one cannot interpret it."""


class ClockError(CertsyncError):
    """This machine's clock is too far from the CA's."""


class CanaryError(CertsyncError):
    """A test file in the webroot does not show up where the CA would look for a challenge."""


class CaError(CertsyncError):
    """The CA refuses."""

    def __init__(self, message: str, hint: str = "", problem: str = "") -> None:
        super().__init__(message, hint)
        self.problem = problem
        """The last word of the problem's type (RFC 8555 section 6.7); empty: none was sent."""


class OrderFailedError(CaError):
    """An order was placed but failed; the next one waits."""


class UnusableError(OrderFailedError):
    """The CA signed a certificate that cannot be served; it counts against the CA's limits."""


class CaSilentError(CaError):
    """The CA cannot be reached or its answer is invalid; the state of an order is unknown."""


class FencedError(CertsyncError):
    """A replica refuses this issuer's push key: another backend may be the issuer by now."""


class ClonedError(FencedError):
    """This machine is a copy of the issuer."""


class RolloutError(CertsyncError):
    """At least one backend does not hold or serve the generation it should."""


class TicketsError(CertsyncError):
    """At least one backend does not share the session ticket keys, but still serves the site."""


class NotifyError(CertsyncError):
    """Notifications cannot be set up, or a service rejects one. Never contains a URL."""


class VetoError(RolloutError):
    """A generation was activated nowhere: the previous one is still served."""


class OutdatedError(VetoError):
    """A generation is older than what a backend serves, or has been revoked."""


class WrongError(CertsyncError):
    """A check found something wrong."""

    exit_status = 3


class LaterError(CertsyncError):
    """Not now. Running the same command later continues where this one stopped."""

    exit_status = 75


class LockHeldError(LaterError):
    """Another run is changing the fleet."""


class LockLostError(LaterError):
    """This run no longer holds the fleet lock, so another one may be changing the fleet."""


class CaBusyError(LaterError):
    """The CA asked to come back later (RFC 8555 section 6.6: rate limits, Retry-After)."""

    def __init__(self, message: str, hint: str = "", until: datetime | None = None) -> None:
        super().__init__(message, hint)
        self.until = until
        """The time it gave; None: none."""


class TooSoonError(LaterError):
    """The CA asked to wait, or so many orders failed that its limits are near."""


class DnsError(LaterError):
    """The names do not resolve to the fleet's public addresses yet."""


def as_certsync_error(error: Exception) -> CertsyncError:
    """Return the error to report for one that was not translated closer to its source."""
    if isinstance(error, CertsyncError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return CertsyncError(
            f"the Python package {error.name} is not installed here",
            "on the operator's machine: pip install 'certsync-fleet[deploy]'",
        )
    if not isinstance(error, OSError):
        hint = "the full traceback is in `journalctl -t certsync`; please report it"
        return CertsyncError(f"unexpected error: {error!r}", hint)
    return CertsyncError(
        f"{error.filename or 'a file'}: {error.strerror or error}",
        "is the disk full or read-only, and do you own the file?",
    )
