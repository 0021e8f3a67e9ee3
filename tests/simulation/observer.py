"""What must hold in every step of a fleet's years."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certsync.issuer.schedule import renewal_moment
from certsync.model.certificate import fingerprint
from certsync.system.terminal import harmless
from tests.simulation.faults import DAY
from tests.simulation.host import NOBODYS, Host
from tests.simulation.world import NAMES, World

HEALED = 3 * DAY
"""How long all that a backend needs may have been well before it has to serve."""

REFUSED_A_DAY = 4
"""Two machines may both take themselves for the issuer, and each tries once a day."""

CONTROL = re.compile(r"\\u00[01][0-9a-f]|\\u007f|\\u00[89][0-9a-f]|\\u20[02][0-9a-f]")
"""A control character or another's escape, in JSON that is ASCII."""


@dataclass
class Seen:
    """What an observer knows of one backend."""

    healthy_since: datetime | None = None
    had_its_chance: bool = False
    """Whether it could have had the next certificate, in the last part of this one's time."""

    chain: tuple[bytes, ...] = NOBODYS
    number: int = 0
    end: datetime | None = None
    begin: datetime | None = None

    def healed(self, now: datetime, *, well: bool) -> bool:
        """Return whether all that it needs has been well for long enough."""
        self.healthy_since = (self.healthy_since or now) if well else None
        return self.healthy_since is not None and now - self.healthy_since >= HEALED


@dataclass
class Story:
    """What has happened in one fleet."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    orders: int = 0
    log: list[str] = field(default_factory=list)

    def told(self, now: datetime, text: str) -> None:
        """Add a line."""
        self.log.append(f"{now:%Y-%m-%d %H:%M} {text}")


class Observer:
    """It looks at each backend from outside, and at the CA's orders."""

    def __init__(self, world: World, story: Story) -> None:
        self.world, self.story = world, story
        self.seen = {name: Seen() for name in world.hosts}
        self.revoked_since: dict[str, datetime] = {}
        self.orders_seen = 0
        self.stopped_at = world.now - DAY * 365

    def look(self) -> None:
        """Record each violation in the story."""
        world = self.world
        ca_well = world.ca.would_issue(world.now) and world.ca.mood.window is None
        issuer_well = (
            world.issuer.is_healthy and ca_well and world.names_lead_here
            and world.challenge_comes_through and world.resolver_answers
            and not world.disk_full and world.kill_at is None and world.killed != world.now
        )  # fmt: skip
        for host in world.members:
            self._look_at(host, self.seen[host.name], well=issuer_well and world.is_well(host))
        if self._unprintable(world.issuer):
            self._violated("what is remembered is not printable")
        self._orders()

    def _look_at(self, host: Host, seen: Seen, *, well: bool) -> None:
        now = self.world.now
        healed = seen.healed(now, well=well)
        if host.served != seen.chain:
            self._another(host, seen)
        # Nothing is brought to anybody, but the guards end before what the issuer serves does.
        stopped = self._stopped_lately()
        if seen.begin is None or seen.end is None:
            if healed and not stopped and host.up:
                self._violated(f"{host.name} serves nothing, and all was well for {HEALED}")
            return
        # Half-way from when it is due to its end the guards end: `schedule.last_chance`.
        due = renewal_moment(seen.begin, seen.end)
        if healed and now >= due + (seen.end - due) / 2 + HEALED:
            seen.had_its_chance = True
        if stopped:
            seen.had_its_chance &= host.served_number == self.world.issuer.served_number
        if host.up and now >= seen.end and ((healed and not stopped) or seen.had_its_chance):
            self._violated(f"{host.name} serves generation {seen.number:04}, which has expired")
        if healed and not stopped:
            self._healed(host)

    def _stopped_lately(self) -> bool:
        world = self.world
        stops = world.has_broken_record or world.issuer_skew or world.is_of_an_earlier_epoch
        if stops or self._issuer_is_behind():
            self.stopped_at = world.now
        return self.world.now - self.stopped_at < HEALED

    def _issuer_is_behind(self) -> bool:
        """Return whether a backend serves something newer than an issuer that was restored.

        Nothing is rolled out then, until the next certificate is due or somebody orders it.
        """
        members = [self.seen[each.name] for each in self.world.members]
        begins = [each.begin for each in members if each.begin is not None]
        own = self.seen[self.world.issuer.name].begin
        return own is not None and own < max(begins)

    def _healed(self, host: Host) -> None:
        """Look at a backend for which all has been well for a while."""
        number, wanted = host.served_number, self.world.issuer.served_number
        if number != wanted:
            self._violated(
                f"{host.name} serves {number:04}, the issuer {wanted:04}, and all was well for "
                f"{HEALED}"
            )
        if self._revoked_long_ago(host):
            self._violated(f"{host.name} serves what the CA has revoked")

    @staticmethod
    def _key_matches(host: Host) -> bool:
        live = host.folder / "etc/live" / NAMES[0]
        if not live.is_dir():
            return True
        try:
            certificate = x509.load_pem_x509_certificate((live / "cert.pem").read_bytes())
            key = load_pem_private_key((live / "privkey.pem").read_bytes(), None)
        except ValueError:
            # Somebody has cut it off.
            return True
        return certificate.public_key() == key.public_key()

    def _unprintable(self, host: Host) -> bool:
        file = host.store.state_file
        if not file.exists():
            return False
        text = file.read_text()
        return CONTROL.search(text) is not None or harmless(text) != text

    def _revoked_long_ago(self, host: Host) -> bool:
        leaf = fingerprint(host.served[0])
        since = self.revoked_since.setdefault(leaf, self.world.now)
        if leaf not in self.world.ca.revoked:
            del self.revoked_since[leaf]
            return False
        return self.world.now - since >= HEALED

    def _another(self, host: Host, seen: Seen) -> None:
        seen.had_its_chance = False
        if host.served == NOBODYS:
            seen.chain, seen.begin, seen.end = host.served, None, None
            return
        leaf = x509.load_der_x509_certificate(host.served[0])
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        issuer = self.world.issuer.name
        lost = {(host.name, seen.number), (issuer, seen.number)} & self.world.damaged
        was_reverted = host.name in self.world.reverted
        if was_reverted:
            # Its disk went back, and what it serves with it: that is not ours to prevent.
            self.world.reverted.discard(host.name)
        elif not lost and host.claims is None:
            self._not_again(host, seen, begin)
        if not begin <= self.world.now < end and not was_reverted:
            self._violated(f"{host.name} began to serve {host.served_number:04}, not valid now")
        if not self._key_matches(host):
            self._violated(f"{host.name} has a key that is not its certificate's")
        seen.chain, seen.begin, seen.end = host.served, begin, end
        seen.number = host.served_number

    def _not_again(self, host: Host, seen: Seen, begin: datetime) -> None:
        """Look whether a backend went back to an older certificate, or to a forbidden one."""
        leaf, issuer = fingerprint(host.served[0]), self.world.issuer
        what = f"from {seen.number:04} to {host.served_number:04}"
        after_rollback = fingerprint(seen.chain[0]) in self.world.forbidden
        if seen.begin is not None and begin < seen.begin and not after_rollback:
            self._violated(f"{host.name} went back {what}")
        if leaf in self.world.forbidden and issuer.name not in self.world.reverted:
            self._violated(f"{host.name} went {what}, which must not be served again")

    def _orders(self) -> None:
        for order in self.world.ca.orders[self.orders_seen :]:
            if order.by != order.issuer:
                self._violated(f"{order.by} orders, and {order.issuer} is the issuer")
        self.orders_seen = len(self.world.ca.orders)
        day = [each for each in self.world.ca.refused_by_limit if self.world.now - each < DAY]
        if len(day) > REFUSED_A_DAY:
            self._violated(f"{len(day)} orders beyond the CA's limit within a day")

    def _violated(self, what: str) -> None:
        self.story.told(self.world.now, f"!! {what}")
        self.story.violations.append(what)
