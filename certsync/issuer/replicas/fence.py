"""May this machine still act as the issuer? The replicas tell, by taking its push key or not. Pure.

A promotion puts another issuer's key in the place of ours. An issuer that was taken out of the role
while it was off does not know of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from certsync.issuer.replicas.rollout import Standing
from certsync.model.codec import Moment
from certsync.model.errors import FencedError

REMEMBERED = timedelta(days=7)
"""For how long a refusal counts of a replica that is out of reach since."""

LEFT_OUT = (
    "refuses the push key, and nothing says that another backend was promoted, so it is left out: "
    "look at AllowUsers, AllowGroups, AuthenticationMethods and AuthorizedKeysFile in `sshd -T` "
    "there, then run `certsync deploy FLEET`"
)


@dataclass(frozen=True)
class Fence:
    """What is remembered of how the replicas took the push key."""

    refused: Mapping[str, Moment] = field(default_factory=dict)
    """Replicas that refused it when they were last reached, though they had accepted it before,
    and when that was."""

    accepted: tuple[str, ...] = ()
    """Replicas that have accepted it, at any time."""

    def seeing(self, replicas: Sequence[Standing], now: datetime) -> Fence:
        """Return this with what the replicas said just now; one that has left the fleet is dropped.

        One that never accepted the key is one whose deploy was cut off, or that a promotion to this
        issuer missed: it counts as out of reach. A refusal is kept while its replica is out of
        reach, because sshd does not answer at all for a while after some refusals; but for a week.
        """
        accepted = {each.name for each in replicas if each.reached or each.name in self.accepted}
        refused = {
            each.name: at
            for each in replicas
            if not each.reached and (at := self._refused(each, accepted, now)) is not None
        }
        return Fence(refused, tuple(sorted(accepted)))

    def _refused(
        self, replica: Standing, accepted: Collection[str], now: datetime
    ) -> datetime | None:
        if replica.refuses_key:
            return now if replica.name in accepted else None
        # One from the future was written under a wrong clock.
        at = min(self.refused.get(replica.name, now - REMEMBERED), now)
        return at if now - at < REMEMBERED else None


def is_exception(
    refusing: Collection[str], accepting: Collection[str], leads_here: bool | None, *, late: bool
) -> bool:
    """Return whether replicas that refuse the key are the exception, and not this issuer.

    There are two witnesses: other replicas that accept the key, at least as many; and where
    challenges lead, None if nobody could be asked. Both have to speak for this issuer. ``late``
    says that the live certificate is about to expire: then one of them is enough, unless
    challenges lead elsewhere.
    """
    others = len(accepting) >= max(1, len(refusing))
    if not late:
        return others and leads_here is True
    return leads_here is True or (others and leads_here is None)


def refusal(refusing: Collection[str], leads_here: bool | None) -> FencedError:
    """Return the error that names the replicas that refuse this issuer's push key."""
    verb = "refuse" if len(refusing) > 1 else "refuses"
    seen = {
        True: "challenges still come here", False: "challenges no longer come here",
        None: "where challenges go could not be seen from here",
    }  # fmt: skip
    return FencedError(
        f"{', '.join(sorted(refusing))} {verb} this issuer's push key: "
        "nothing was ordered or activated",
        "was another backend promoted? then take this one's role away: `certsync promote FLEET "
        f"NAME` again; if not: `certsync deploy FLEET` ({seen[leads_here]})",
    )
