"""What must fit together about balancers in a fleet file: ours, or a provider's.

See `whole` for how these checks work.
"""

from __future__ import annotations

from collections.abc import Iterator

from certsync.model.errors import Mistake
from certsync.model.options import Provider, WebAccess
from certsync.operator.fleet_file.draft import Draft
from certsync.operator.fleet_file.hosts import is_ip_address
from certsync.operator.fleet_file.rules import quoted

VIRTUAL, NETWORKS = "balancer.virtual_addresses", "balancer.networks"


def _balancer_is_ours_or_not(draft: Draft) -> Iterator[Mistake]:
    fleet, table = draft.fleet, draft.fleet.balancer
    ours = table.provider is Provider.HAPROXY
    if draft.at_fault_below("balancer"):
        return
    unused = f"has no effect when balancer.provider is {quoted(table.provider.value)}"
    if not ours and fleet.balancers:
        yield Mistake("balancers", unused, 'remove them, or set provider = "haproxy"')
    if ours and table.networks:
        yield Mistake(NETWORKS, unused, "remove it: the balancers' addresses are known")
    if not ours and table.virtual_addresses:
        yield Mistake(VIRTUAL, unused, "remove it: DNS points to public_addresses")
    if ours and table.virtual_addresses and len(fleet.balancers) == 1:
        yield Mistake(
            VIRTUAL,
            "needs a second balancer for the addresses to move to",
            "add another [balancers.NAME], or remove it",
        )
    if ours or table.networks:
        return
    if fleet.firewall.web_access is WebAccess.BALANCERS:
        yield Mistake(
            NETWORKS,
            "is missing, and UFW would allow nobody but the balancer",
            'networks = ["10.0.0.0/24"], or web_access = "anywhere" under [firewall]',
        )
    elif fleet.balancing.proxy_protocol and table.provider.sends_proxy:
        yield Mistake(
            NETWORKS,
            "is missing: the networks that the balancer connects from",
            'networks = ["10.0.0.0/24"], or proxy_protocol = false under [balancing]',
        )


def _a_providers_balancer_is_named(draft: Draft) -> Iterator[Mistake]:
    table, place = draft.fleet.balancer, "balancer.load_balancer"
    provider = quoted(table.provider.value)
    if draft.at_fault_below("balancer"):
        return
    if table.provider.is_driven and not table.load_balancer:
        hint = 'its identifier at the provider: load_balancer = "4de7ac8b-…"'
        yield Mistake(place, f"is missing: {provider} has many load balancers", hint)
    if table.load_balancer and not table.provider.is_driven:
        known = " or ".join(quoted(each.value) for each in Provider if each.is_driven)
        yield Mistake(
            place,
            f"has no effect when balancer.provider is {provider}",
            f"remove it, or set provider = {known}",
        )
    said = draft.values.get("balancing", {}).get("proxy_protocol")
    if said and not table.provider.sends_proxy:
        yield Mistake(
            "balancing.proxy_protocol",
            f"is not possible with {provider}, which sends it on port 80 too or not at all",
            "remove it: backends then see the balancer's address over HTTPS",
        )


def _every_backend_can_take_every_name(draft: Draft) -> Iterator[Mistake]:
    """Providers' balancers read no server names."""
    fleet = draft.fleet
    if not fleet.balancer.provider.is_driven or not fleet.backends:
        return
    if draft.at_fault_below("lineages") or draft.at_fault("served_by"):
        return
    if not fleet.serving_all:
        yield Mistake(
            "balancer.provider",
            "sends any name to any backend, but no backend is in every served_by",
            "let at least one backend serve every lineage",
        )


def _virtual_addresses_are_nobodys_own(draft: Draft) -> Iterator[Mistake]:
    own = {address: at for address, _, at in draft.addresses}
    for address in draft.fleet.balancer.virtual_addresses:
        if address in own:
            yield Mistake(
                VIRTUAL,
                f"{quoted(address)} is also {own[address]}",
                "it moves between balancers: use an address that no machine has",
            )


def _balancers_can_share_addresses(draft: Draft) -> Iterator[Mistake]:
    """VRRP uses one address family, and its messages carry addresses of that family."""
    addresses = [each.private_address for each in draft.fleet.balancers]
    known = [each for each in addresses if is_ip_address(each)]
    virtual = draft.fleet.balancer.virtual_addresses
    if not virtual or not known or draft.at_fault_below("balancers"):
        return
    if len({":" in each for each in known}) > 1:
        yield Mistake(
            VIRTUAL,
            "needs balancers with private addresses of one family",
            "give all of them IPv4 addresses, or all IPv6",
        )
    elif all((":" in each) != (":" in known[0]) for each in virtual):
        family = "IPv6" if ":" in known[0] else "IPv4"
        yield Mistake(
            VIRTUAL,
            f"has no {family} address, but the balancers' private addresses are {family}",
            f"add an {family} address, or give the balancers other private addresses",
        )


def _proxy_port_is_free(draft: Draft) -> Iterator[Mistake]:
    fleet = draft.fleet
    port = fleet.balancing.proxy_port
    if draft.at_fault("balancing.proxy_port"):
        return
    taken = {80: "plain HTTP", 443: "TLS"}
    taken |= {each.ssh_port: "SSH" for each in fleet.backends}
    upstreams = [each.site.upstream for each in fleet.lineages]
    taken |= {int(each.rpartition(":")[2]): "upstream" for each in upstreams if each}
    if port in taken:
        yield Mistake(
            "balancing.proxy_port", f"{port} is in use for {taken[port]}", "the default is 8443"
        )


CHECKS = (
    _balancer_is_ours_or_not,
    _a_providers_balancer_is_named,
    _every_backend_can_take_every_name,
    _virtual_addresses_are_nobodys_own,
    _balancers_can_share_addresses,
    _proxy_port_is_free,
)
"""In the order in which mistakes are reported."""
