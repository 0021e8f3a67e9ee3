"""Which droplets a load balancer at DigitalOcean has, and the calls that change them. Pure.

Up to ten droplets are named by their ids, and more by a tag:
<https://docs.digitalocean.com/products/networking/load-balancers/details/limits/>. The tag is our
own, for one balancer. It takes the place of the ids when it is on the same droplets as they, so
that no unproven droplet gets traffic; from then on members come and go with the tag. A balancer
keeps its tag when it has fewer droplets again. That both ways are the same for open connections is
not documented.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certsync.operator.balancer.managed import digitalocean_form as form
from certsync.operator.balancer.managed.errors import BusyError, ManagedError
from certsync.operator.balancer.managed.port import Admit, Change, Member, Remove
from certsync.system.terminal import harmless

MOST = 10
Request = tuple[str, str, Any]
"""Method, path and body."""


@dataclass(frozen=True)
class Pool:
    """The droplets of one balancer."""

    balancer: Any
    droplets: Sequence[Any]
    """All of the team."""

    path: str
    """The balancer's."""

    tag: str
    """Ours, for this balancer."""

    @property
    def ids(self) -> list[int]:
        """Return the ids of those in it."""
        return list(self.balancer.get("droplet_ids") or ())

    def members(self) -> tuple[Member, ...]:
        """Return those in it, by their first private addresses."""
        known = {each["id"]: form.addresses(each) for each in self.droplets}
        addresses = {key: known.get(key) or [""] for key in self.ids}
        return tuple(Member(harmless(each[0]), str(key)) for key, each in addresses.items())

    def requests(self, changes: Sequence[Change]) -> list[Request]:
        """Return the calls that make the first of these changes, and those of its kind.

        Raises:
            BusyError: they have been made, and are not to be seen yet.
            ManagedError: they cannot be made.
        """
        tag = self.balancer.get("tag")
        if tag and tag != self.tag:
            raise ManagedError(
                f"its members are the droplets with the tag {harmless(tag)}",
                "choose them by name at DigitalOcean, instead of by tag",
            )
        admitted = [self._droplet(each) for each in changes if isinstance(each, Admit)]
        gone = [int(each.member.id) for each in changes if isinstance(each, Remove)]
        if isinstance(changes[0], Admit):
            return self._tag_more(admitted) if tag else self._admit(admitted, gone)
        if isinstance(changes[0], Remove):
            return self._untag(gone) if tag else [self._by_id("DELETE", gone)]
        raise ManagedError("DigitalOcean cannot drain a droplet")

    def misfits(self, backends: Mapping[str, str]) -> dict[str, str]:
        """Return why some backends are no droplets that it can send to, by name."""
        found = {}
        for name, address in backends.items():
            try:
                self._droplet(Admit(name, address))
            except ManagedError as error:
                found[name] = error.message.removeprefix(f"{name}: ")
        return found

    def _droplet(self, wanted: Admit) -> int:
        """Return the id of the droplet with this address in the balancer's own network.

        Another VPC may have the same addresses.
        """
        vpc, region = self.balancer.get("vpc_uuid"), self.balancer["region"]["slug"]
        there = [
            each["id"]
            for each in self.droplets
            if wanted.address in form.addresses(each)
            and each["region"]["slug"] == region
            and (not vpc or each.get("vpc_uuid") == vpc)
        ]
        if len(there) != 1:
            raise ManagedError(
                f"{wanted.name}: {len(there) or 'no'} droplets in the load balancer's region and "
                f"VPC have the private address {wanted.address}",
                "is the private address in the fleet file right?",
            )
        return int(there[0])

    def _by_id(self, method: str, ids: Iterable[int]) -> Request:
        return method, f"{self.path}/droplets", {"droplet_ids": list(ids)}

    def _admit(self, admitted: list[int], gone: list[int]) -> list[Request]:
        after = {*self.ids, *admitted}
        if len(after) <= MOST:
            return [self._by_id("POST", admitted)]
        body = form.settings(self.balancer)
        if len(after - set(gone)) <= MOST:
            # There is no room for both at once: they change places in one call.
            return [("PUT", self.path, {**body, "droplet_ids": sorted(after - set(gone))})]
        del body["droplet_ids"]
        here, tagged = set(self.ids), self._tagged()
        # The tag may be there already: then it stays, as Terraform's provider relies on.
        # https://github.com/digitalocean/terraform-provider-digitalocean (tags.go)
        made = [("POST", "/v2/tags", {"name": self.tag})]
        strays = [self._by_tag("DELETE", tagged - here)] if tagged - here else []
        missing = [self._by_tag("POST", here - tagged)] if here - tagged else []
        switch = [("PUT", self.path, {**body, "tag": self.tag})]
        return [*made, *strays, *missing, *switch, self._by_tag("POST", admitted)]

    def _tag_more(self, admitted: list[int]) -> list[Request]:
        if set(admitted) <= self._tagged():
            raise BusyError("the load balancer does not have all droplets with its tag yet")
        return [self._by_tag("POST", admitted)]

    def _untag(self, gone: list[int]) -> list[Request]:
        if not self._tagged() & set(gone):
            raise BusyError("the load balancer still has droplets without its tag")
        return [self._by_tag("DELETE", gone)]

    def _tagged(self) -> set[int]:
        return {each["id"] for each in self.droplets if self.tag in (each.get("tags") or ())}

    def _by_tag(self, method: str, ids: Iterable[int]) -> Request:
        named = [{"resource_id": str(each), "resource_type": "droplet"} for each in sorted(ids)]
        return method, f"/v2/tags/{self.tag}/resources", {"resources": named}
