"""Which machine the issuer is: written into its marker by a deploy, and compared by each command.

A disk can be cloned, and a virtual machine copied, with the marker on it. Two machines would then
both order and push.
"""

from __future__ import annotations

from dataclasses import dataclass

from certsync.model.epoch import Epoch


@dataclass(frozen=True)
class Identity:
    """What a copy of a machine does not have."""

    machine: str = ""
    """SHA-256, in hex, of /etc/machine-id and the firmware's product UUID; empty: not known."""

    has_address: bool = False
    """Whether the issuer's private address is one of its own, and not a translated one."""

    def differs(self, seen: Identity) -> str:
        """Return how a machine differs from this one; empty: it does not, as far as is known."""
        if self.machine and seen.machine != self.machine:
            return "its machine-id or product UUID is another one"
        if self.has_address and not seen.has_address:
            return "it does not have the issuer's private address"
        return ""


def marker(heading: str, identity: Identity, epoch: Epoch, address: str) -> str:
    """Return the marker file's content.

    ``heading`` is for people, ``address`` the issuer's private one.
    """
    machine = f"machine {identity.machine} {int(identity.has_address)}"
    return f"# {heading}\n{machine}\naddress {address}\n{epoch}\n"


def in_marker(text: str) -> Identity:
    """Return the identity in a marker; nothing is known from an earlier version's."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "machine":
            return Identity(words[1], words[2] == "1")
    return Identity()
