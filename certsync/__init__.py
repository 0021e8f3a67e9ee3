"""One certificate for every server behind a TLS passthrough balancer."""

__version__ = "0.1.0"
