"""Every error that certsync tells a person about, drawn as one tree.

    CertsyncError                  exit 1   something failed
    ├── FleetFileError             exit 2   the fleet file has mistakes, all of them listed
    ├── RefusedError               exit 1   somebody else's server: nothing was changed
    ├── HostError                  exit 1   something run on a host, or here, fails
    │   └── UnreachableError                the host cannot be reached at all: it has no vote
    │       ├── SilentError                 nothing answers there
    │       └── KeyRefusedError             it is there, and does not let our SSH key in
    ├── StoreError                 exit 1   certificates on disk are not what they should be
    │   ├── BrokenStateError                a state file is not what was written
    │   └── NewerSchemaError                a newer certsync has written it
    ├── ClockError                 exit 1   this machine's clock is too far from the CA's
    ├── CanaryError                exit 1   a challenge would not reach the issuer
    ├── CaError                    exit 1   the CA refuses
    │   ├── OrderFailedError                an order was placed, and came to nothing
    │   └── CaSilentError                   it cannot be reached, or makes no sense
    ├── FencedError                exit 1   the replicas take another backend for the issuer
    ├── RolloutError               exit 1   a backend does not hold or serve the generation
    │   └── VetoError                       it was activated nowhere
    │       └── OutdatedError               it is older than what is served, or revoked
    ├── TicketsError               exit 1   a backend does not share the session ticket keys
    ├── NotifyError                exit 1   a message cannot be sent, or not all services take it
    ├── WrongError                 exit 3   checked, and a backend serves something else
    └── LaterError                 exit 75  not now; the same command continues
        ├── LockHeldError                   another run changes the fleet
        ├── CaBusyError                     the CA said when to come back
        ├── TooSoonError                    the last tries say when to come back
        └── DnsError                        the names do not lead to the balancer yet

Each carries what and where in its message, and in its hint what to try. Foreign errors are
translated where they enter: subprocess's in `process`, OpenSSH's in `host`, the CA's in `issuance`,
the file system's in `store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


class CertsyncError(Exception):
    """Something a person has to know. The message says what and where."""

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
    """The fleet file cannot be used. ``mistakes`` are all that were found."""

    exit_status = 2

    def __init__(self, path: str, mistakes: list[Mistake]) -> None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{path} has {count}")
        self.path = path
        self.mistakes = mistakes


class RefusedError(CertsyncError):
    """A server that is somebody else's; nothing has been changed on any host."""


class HostError(CertsyncError):
    """What was run on a host, or on this machine, failed. ``host`` names it; empty: this one."""

    def __init__(self, why: str, hint: str = "", *, host: str = "") -> None:
        super().__init__(f"{host}: {why}" if host else why, hint)
        self.why = why
        self.host = host


class UnreachableError(HostError):
    """A host cannot be reached."""


class SilentError(UnreachableError):
    """Nothing answers where a host should be."""


class KeyRefusedError(UnreachableError):
    """A host answers and does not let our SSH key in."""


class StoreError(CertsyncError):
    """What is on disk is not what it should be, or cannot be written."""


class BrokenStateError(StoreError):
    """A state file is not what was written: cut off, or edited by hand."""


class NewerSchemaError(StoreError):
    """A newer certsync has written it, and this one cannot know what it means."""


class ClockError(CertsyncError):
    """This machine's clock is too far from the CA's."""


class CanaryError(CertsyncError):
    """A test file in the webroot is not seen where the CA would look for a challenge."""


class CaError(CertsyncError):
    """The CA refuses."""

    def __init__(self, message: str, hint: str = "", problem: str = "") -> None:
        super().__init__(message, hint)
        self.problem = problem
        """The last word of the problem's type (RFC 8555 section 6.7); empty: it sent none."""


class OrderFailedError(CaError):
    """An order was placed and came to nothing; the next one waits."""


class CaSilentError(CaError):
    """The CA cannot be reached, or answers nonsense; what it thinks of an order is not known."""


class FencedError(CertsyncError):
    """A replica refuses this issuer's push key: another backend may be the issuer by now."""


class RolloutError(CertsyncError):
    """At least one backend does not hold or serve the generation it should."""


class TicketsError(CertsyncError):
    """At least one backend does not share the session ticket keys; it serves all the same."""


class NotifyError(CertsyncError):
    """Notifications cannot be set up, or a service does not take one. Never tells a URL."""


class VetoError(RolloutError):
    """A generation was activated nowhere: what was served before goes on being served."""


class OutdatedError(VetoError):
    """A generation is older than what a backend serves, or the CA has revoked it."""


class WrongError(CertsyncError):
    """Checked, and something is not as it should be."""

    exit_status = 3


class LaterError(CertsyncError):
    """Not now. The same command continues where this one stopped."""

    exit_status = 75


class LockHeldError(LaterError):
    """Another run changes the fleet."""


class CaBusyError(LaterError):
    """The CA asked to come back later (RFC 8555 section 6.6: rate limits, Retry-After)."""

    def __init__(self, message: str, hint: str = "", until: datetime | None = None) -> None:
        super().__init__(message, hint)
        self.until = until
        """When it said; None: it did not say."""


class TooSoonError(LaterError):
    """The CA has said when to come back, or so many orders failed that its limits are near."""


class DnsError(LaterError):
    """The names do not lead to the fleet's public addresses yet."""


def as_certsync_error(error: Exception) -> CertsyncError:
    """Return the error to tell for one that nothing nearer to it has translated."""
    if isinstance(error, CertsyncError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return CertsyncError(
            f"the Python package {error.name} is not installed here",
            "on the operator's machine: pip install 'certsync-fleet[deploy]'",
        )
    if not isinstance(error, OSError):
        hint = "journalctl -t certsync has the whole of it; please report it"
        return CertsyncError(f"unforeseen: {error!r}", hint)
    return CertsyncError(
        f"{error.filename or 'a file'}: {error.strerror or error}",
        "is the disk full or read-only, and is the file yours?",
    )
