"""What can be chosen for a fleet, with its defaults: one class for each table of the file.

Only the standard library is used, see `fleet`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

DEFAULT_HEALTH_PATH = "/.well-known/certsync-health"


class KeyType(str, Enum):
    """The kinds of private key that Let's Encrypt signs."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


class SiteKind(str, Enum):
    """Who writes the site's nginx configuration, and what it does."""

    STATIC = "static"
    PROXY = "proxy"
    UNMANAGED = "unmanaged"


class WebAccess(str, Enum):
    """From where a backend's ports 80 and 443 may be reached."""

    ANYWHERE = "anywhere"
    BALANCERS = "balancers"


class OnCertificateFailure(str, Enum):
    """What the balancer does when every member fails for the certificate they share."""

    SERVE = "serve"
    REFUSE = "refuse"


class Stickiness(str, Enum):
    """Whether the same client comes to the same backend again."""

    NONE = "none"
    SOURCE = "source"


class Provider(str, Enum):
    """Whose balancer it is."""

    HAPROXY = "haproxy"
    """HAProxy on the fleet's balancers, by us."""

    NONE = "none"
    """Somebody else's: what has to be set there is printed."""

    AWS = "aws"
    DIGITALOCEAN = "digitalocean"
    HETZNER = "hetzner"
    LINODE = "linode"
    OPENSTACK = "openstack"
    OUTSCALE = "outscale"

    @property
    def is_driven(self) -> bool:
        """Whether it is a provider's balancer that certsync changes by its API."""
        return self not in (Provider.HAPROXY, Provider.NONE)

    @property
    def sends_proxy(self) -> bool:
        """Whether its balancer can send the PROXY protocol on port 443 alone."""
        return self is not Provider.DIGITALOCEAN


class Scheduler(str, Enum):
    """What starts the renewal on the issuer."""

    CRON = "cron"
    SYSTEMD = "systemd"


class Event(str, Enum):
    """What a fleet's people can be told of, wherever they are."""

    RUN_FAILED = "run-failed"
    """A renewal run has failed."""

    BEHIND = "behind"
    """A backend has not served the current generation for over a day."""

    EXPIRING = "expiring"
    """Less than a quarter of the certificate's lifetime is left."""

    CHALLENGE = "challenge"
    """For over two days, a challenge would not have reached the issuer."""


@dataclass(frozen=True)
class Site:
    """What the backends serve."""

    kind: SiteKind = SiteKind.STATIC
    root: str = "/var/www/html"
    """The folder of a static site, on the backends."""

    upstream: str = ""
    """Where an application on the backend itself listens, `127.0.0.1:3000`; for `proxy`."""

    test_page: bool = False
    """Whether `/lb.html` shows the backend's name in a colour of its own."""

    redirect: bool = False
    """Whether plain HTTP is redirected to HTTPS, but for challenges."""

    hsts_seconds: int = 0
    """Seconds for which browsers ask for HTTPS alone (RFC 6797); 0: nothing is said of it."""


@dataclass(frozen=True)
class Firewall:
    """What UFW is told, where it is present."""

    enable: bool = False
    """Switch UFW on where it is off, SSH allowed first."""

    web_access: WebAccess = WebAccess.ANYWHERE


@dataclass(frozen=True)
class Balancing:
    """How the balancer checks its members."""

    health_path: str = DEFAULT_HEALTH_PATH
    """Asked over verified HTTPS; an answer of 200 to 399 is good."""

    on_certificate_failure: OnCertificateFailure = OnCertificateFailure.SERVE
    proxy_protocol: bool = True
    """Whether the balancer tells the backends the client's address (PROXY protocol, version 2)."""

    proxy_port: int = 8443
    """The backends' TLS port that takes nothing without it."""

    stickiness: Stickiness = Stickiness.NONE
    max_connections: int = 0
    """Of one balancer at the same time; 0: what its memory is good for."""

    slow_start_seconds: int = 30
    """How long a member that is new or up again takes to get its full share; 0: none."""

    connections_per_client: int = 0
    """New ones that an address may make in ten seconds; 0: as many as it likes."""


@dataclass(frozen=True)
class Balancer:
    """Whose balancer it is, and where it is found."""

    provider: Provider = Provider.HAPROXY
    virtual_addresses: tuple[str, ...] = ()
    """Addresses that move between the balancers (VRRP, RFC 5798); none: they stay."""

    networks: tuple[str, ...] = ()
    """From where somebody else's balancer comes, addresses or networks: it may say who asks."""

    load_balancer: str = ""
    """A provider's identifier of the balancer that is driven; empty: none is."""


@dataclass(frozen=True)
class Renewal:
    """How often and by what the issuer looks whether anything is due."""

    every_hours: int = 1
    """1, 2, 3, 4, 6 or 12."""

    scheduler: Scheduler = Scheduler.CRON


@dataclass(frozen=True)
class Notify:
    """Who hears of it, apart from `certsync status`. The addresses are secrets, on the issuer."""

    events: tuple[Event, ...] = ()
    heartbeat_url: str = field(default="", repr=False)
    """Asked for by every good run, so that silence alarms elsewhere; empty: none."""


@dataclass(frozen=True)
class Metrics:
    """What node_exporter is given to read."""

    folder: str = ""
    """node_exporter's textfile folder, on the issuer; empty: nothing is written."""
