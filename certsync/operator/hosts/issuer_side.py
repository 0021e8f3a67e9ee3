"""What the operator's machine asks the issuer, over SSH."""

from __future__ import annotations

import json

from certsync.model.answers import PROTOCOL, NewerProtocolError, Proven
from certsync.model.errors import HostError, RefusedError, StoreError
from certsync.model.fleet import Fleet, Machine
from certsync.model.paths import CERTSYNC, IssuerPaths
from certsync.operator.fleet_file import hosts, rules
from certsync.operator.fleet_file.differences import undeployed
from certsync.system import ssh

ISSUER = IssuerPaths()


def proven(fleet: Fleet, issuer: Machine) -> Proven:
    """Return the issuer's probes of all backends, made now, and its state.

    Raises:
        HostError: it cannot be reached, or certsync does not work there.
    """
    done = ssh.on(issuer, fleet.known_hosts, f"{CERTSYNC} prove --json")
    try:
        return Proven.from_json(json.loads(done.stdout), fleet.name)
    except NewerProtocolError as error:
        raise HostError(
            f"certsync there is newer than here: it speaks {error}, this one {PROTOCOL}",
            "upgrade certsync on this machine",
            host=issuer.name,
        ) from None
    except (ValueError, RecursionError):
        raise HostError(
            f"certsync does not answer there: {done.error_summary}",
            "run `certsync deploy` with the same fleet file",
            host=issuer.name,
        ) from None


def account(fleet: Fleet) -> str:
    """Return the URL of the issuer's account at the CA; empty: it has none yet.

    Raises:
        HostError: the issuer cannot be reached.
    """
    place = ISSUER.account(fleet.authority.directory) / "account.json"
    output = ssh.on(fleet.issuer, fleet.known_hosts, f"cat {place}").stdout
    try:
        return str(json.loads(output)["uri"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def rendered(fleet: Fleet, issuer: Machine) -> Fleet:
    """Return the fleet as deployed last, from the issuer.

    Raises:
        HostError: the issuer cannot be reached, or was never deployed to.
    """
    done = ssh.on(issuer, fleet.known_hosts, f"cat {ISSUER.fleet_file}")
    if done.status != 0:
        raise HostError(
            f"this fleet has not been deployed: {done.error_summary}",
            "deploy it first: certsync deploy FLEET",
            host=issuer.name,
        )
    try:
        return Fleet.from_json(done.stdout)
    except StoreError as error:
        raise HostError(error.message, error.hint, host=issuer.name) from None


def refuse_what_is_not_deployed(wanted: Fleet, issuer: Machine, changing: tuple[str, ...]) -> None:
    """Refuse to change a fleet while its file has edits that are not deployed.

    Raises:
        RefusedError: it has such edits; this run would apply them to some hosts only.
    """
    found = undeployed(wanted, rendered(wanted, issuer), changing)
    if found:
        raise RefusedError(
            f"the fleet file differs from what is deployed: {', '.join(found)}; nothing was "
            "changed",
            "pull the newer fleet file, or deploy this one first: certsync deploy FLEET",
        )


def forgotten(wanted: Fleet, deployed: Fleet) -> dict[str, Machine]:
    """Return the backends of a deployed fleet that the fleet file does not name, by name.

    The operator's SSH will connect to addresses given by the issuer, so each must pass the fleet
    file's own rules.

    Raises:
        HostError: the issuer names a machine that no fleet file could contain.
    """
    names = {each.name for each in wanted.machines}
    found = [each for each in deployed.backends if each.name not in names]
    try:
        for each in found:
            rules.machine_name(each.name)
            hosts.machine_address(each.address)
            hosts.ip_address(each.private_address)
            rules.user_name(each.ssh_user)
            rules.port(each.ssh_port)
    except (ValueError, TypeError, AttributeError) as error:
        raise HostError(
            f"/etc/certsync/fleet.json has an invalid machine: {error}",
            host=wanted.issuer_name,
        ) from None
    return {each.name: each for each in found}


def refuse_older_protocol(issuer: Machine, seen: Proven) -> None:
    """Refuse to ask an issuer for what it would misunderstand; `proven` has refused a newer one.

    Its release may be another one: it changes with every edit of the code.

    Raises:
        RefusedError: it has an older protocol.
    """
    if seen.protocol < PROTOCOL:
        raise RefusedError(
            f"certsync on {issuer.name} is older than here: it speaks protocol {seen.protocol}, "
            f"this one {PROTOCOL}; nothing was changed",
            "install this one there first: certsync deploy FLEET",
        )


def left(fleet: Fleet, issuer: Machine) -> list[str]:
    """Return the names of backends that were in the fleet and no longer are.

    Raises:
        HostError: the issuer cannot be reached.
    """
    lines = ssh.on(issuer, fleet.known_hosts, f"cat {ISSUER.left}").stdout.splitlines()
    return [line for line in lines if line and not line.startswith("#")]
