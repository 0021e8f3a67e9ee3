"""pyinfra inventory: the fleet of the TOML file beside this one."""

from pathlib import Path

from certsync.inventory import groups

backends, issuer, replicas, balancers = groups(Path(__file__).with_suffix(".toml"))
