"""The fleet file's tables and their keys, one class a table, with the rule of each value.

Every key may be missing here, so that one mistake never hides another: what has to be there, and
what has to fit together, is asked in `fleet_file`. Values that have rules come out as the fleet
keeps them. The context of a validation is the fleet file's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from certsync.model import fleet, options
from certsync.operator.fleet_file import hosts, paths, rules


def _in_folder(rule: Callable[[str, Path], str]) -> AfterValidator:
    """Give a rule for files the folder that relative paths start from."""

    def validate(value: str, info: ValidationInfo[Path]) -> str:
        return rule(value, info.context)

    return AfterValidator(validate)


Name = Annotated[str, AfterValidator(hosts.certificate_name)]
IpAddress = Annotated[str, AfterValidator(hosts.ip_address)]
Network = Annotated[str, AfterValidator(hosts.network)]
Port = Annotated[int, AfterValidator(rules.port)]
UserName = Annotated[str, AfterValidator(rules.user_name)]
SshFile = Annotated[str, _in_folder(paths.ssh_file)]
CertificateFile = Annotated[str, _in_folder(paths.certificate_file)]


class Table(BaseModel):
    """What all tables share: no unknown keys, and no value made to fit."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys that this table knows."""
        return list(cls.model_fields)


class Top(Table):
    """The keys above the first table, and the tables themselves, unread."""

    names: list[Name] = Field(default_factory=list)
    public_addresses: list[IpAddress] = Field(default_factory=list)
    served_by: list[str] = Field(default_factory=list)
    issuer: str = ""
    passthrough: bool = True
    ca: dict[str, Any] = Field(default_factory=dict)
    certificate: dict[str, Any] = Field(default_factory=dict)
    ssh: dict[str, Any] = Field(default_factory=dict)
    site: dict[str, Any] = Field(default_factory=dict)
    firewall: dict[str, Any] = Field(default_factory=dict)
    balancing: dict[str, Any] = Field(default_factory=dict)
    balancer: dict[str, Any] = Field(default_factory=dict)
    sessions: dict[str, Any] = Field(default_factory=dict)
    renewal: dict[str, Any] = Field(default_factory=dict)
    notify: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    lineages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    balancers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    backends: dict[str, dict[str, Any]] = Field(default_factory=dict)


class CaTable(Table):
    """`[ca]`."""

    directory: Annotated[str, AfterValidator(hosts.directory)] = fleet.LETSENCRYPT
    agree_to_terms: bool = False
    contact: Annotated[str, AfterValidator(hosts.email)] = fleet.Authority.contact
    directory_bundle: CertificateFile = fleet.Authority.directory_bundle
    roots: CertificateFile = fleet.Authority.roots
    eab_key_id: Annotated[str, AfterValidator(rules.key_identifier)] = fleet.Authority.eab_key_id


class CertificateTable(Table):
    """`[certificate]`."""

    key_type: Annotated[str, AfterValidator(rules.one_of(options.KeyType))] = (
        fleet.Lineage.key_type.value
    )
    profile: Annotated[str, AfterValidator(rules.profile)] = fleet.Lineage.profile
    reuse_key: bool = fleet.Lineage.reuse_key


class SshTable(Table):
    """`[ssh]`."""

    user: UserName = fleet.Machine.ssh_user
    port: Port = fleet.Machine.ssh_port
    key: SshFile = fleet.Machine.ssh_key
    known_hosts: SshFile = fleet.Fleet.known_hosts


class SiteTable(Table):
    """`[site]`."""

    kind: Annotated[str, AfterValidator(rules.one_of(options.SiteKind))] = options.Site.kind.value
    root: Annotated[str, AfterValidator(rules.site_root)] = options.Site.root
    upstream: Annotated[str, AfterValidator(hosts.upstream)] = options.Site.upstream
    test_page: bool = options.Site.test_page
    redirect: bool = options.Site.redirect
    hsts_seconds: Annotated[int, AfterValidator(rules.seconds(2 * rules.YEAR))] = (
        options.Site.hsts_seconds
    )


class FirewallTable(Table):
    """`[firewall]`."""

    enable: bool = options.Firewall.enable
    web_access: Annotated[str, AfterValidator(rules.one_of(options.WebAccess))] = (
        options.Firewall.web_access.value
    )


class BalancingTable(Table):
    """`[balancing]`."""

    health_path: Annotated[str, AfterValidator(rules.health_path)] = options.Balancing.health_path
    on_certificate_failure: Annotated[
        str, AfterValidator(rules.one_of(options.OnCertificateFailure))
    ] = options.Balancing.on_certificate_failure.value
    proxy_protocol: bool = options.Balancing.proxy_protocol
    proxy_port: Port = options.Balancing.proxy_port
    max_connections: Annotated[int, AfterValidator(rules.count(1_000_000))] = (
        options.Balancing.max_connections
    )
    slow_start_seconds: Annotated[int, AfterValidator(rules.seconds(3600))] = (
        options.Balancing.slow_start_seconds
    )
    connections_per_client: Annotated[int, AfterValidator(rules.count(1_000_000))] = (
        options.Balancing.connections_per_client
    )


class BalancerTable(Table):
    """`[balancer]`."""

    provider: Annotated[str, AfterValidator(rules.one_of(options.Provider))] = (
        options.Balancer.provider.value
    )
    virtual_addresses: list[IpAddress] = Field(default_factory=list)
    networks: list[Network] = Field(default_factory=list)


class SessionsTable(Table):
    """`[sessions]`."""

    share_tickets: bool = fleet.Fleet.share_tickets
    stickiness: Annotated[str, AfterValidator(rules.one_of(options.Stickiness))] = (
        options.Balancing.stickiness.value
    )


class LineageTable(Table):
    """`[lineages.NAME]`; what it does not say of its certificate and site, the fleet's say."""

    names: list[Name] = Field(default_factory=list)
    served_by: list[str] = Field(default_factory=list)
    certificate: dict[str, Any] = Field(default_factory=dict)
    site: dict[str, Any] = Field(default_factory=dict)


class RenewalTable(Table):
    """`[renewal]`."""

    every_hours: Annotated[int, AfterValidator(rules.every_hours)] = options.Renewal.every_hours
    scheduler: Annotated[str, AfterValidator(rules.one_of(options.Scheduler))] = (
        options.Renewal.scheduler.value
    )


class NotifyTable(Table):
    """`[notify]`."""

    events: list[Annotated[str, AfterValidator(rules.one_of(options.Event))]] = Field(
        default_factory=list
    )
    heartbeat_url: Annotated[str, AfterValidator(hosts.heartbeat_url)] = (
        options.Notify.heartbeat_url
    )


class MetricsTable(Table):
    """`[metrics]`."""

    folder: Annotated[str, AfterValidator(rules.metrics_folder)] = options.Metrics.folder


class MachineTable(Table):
    """`[backends.NAME]` and `[balancers.NAME]`."""

    address: Annotated[str, AfterValidator(hosts.machine_address)] = ""
    private_address: IpAddress = ""
    ssh_user: UserName = ""
    ssh_port: Port = 0
    ssh_key: SshFile = ""


TABLES: dict[str, type[Table]] = {
    "[ca]": CaTable,
    "[certificate]": CertificateTable,
    "[ssh]": SshTable,
    "[site]": SiteTable,
    "[firewall]": FirewallTable,
    "[balancing]": BalancingTable,
    "[balancer]": BalancerTable,
    "[sessions]": SessionsTable,
    "[renewal]": RenewalTable,
    "[notify]": NotifyTable,
    "[metrics]": MetricsTable,
    "[lineages.NAME]": LineageTable,
    "[backends.NAME]": MachineTable,
    "[balancers.NAME]": MachineTable,
}
"""As messages call them. For a key in the wrong place, the first that knows it."""


def home_of(key: str) -> str:
    """Return where a key belongs, in words; empty if nowhere."""
    if key in Top.model_fields:
        return "the top of the file, above the first [table]"
    return next((name for name, table in TABLES.items() if key in table.model_fields), "")
