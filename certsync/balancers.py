"""What the balancers say of their members, read through HAProxy's runtime socket."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor

from certsync import host
from certsync.errors import HostError
from certsync.fleet import Fleet, Machine

COMMAND = (
    "echo show stat | socat -t 5 - /run/haproxy/admin.sock; "
    "grep -q '^frontend tls' /etc/haproxy/haproxy.cfg && echo '# rule on' || echo '# rule off'"
)
POOL = "tls"
DRAINED = "drained: `certsync deploy` takes it back, or finish `certsync remove-backend`"


def pools(fleet: Fleet) -> dict[str, dict[str, str] | HostError]:
    """Return, for each balancer, what it says of each member, or why it could not be asked."""

    def ask(machine: Machine) -> dict[str, str] | HostError:
        try:
            return members(host.on(machine, fleet.known_hosts, COMMAND).stdout)
        except HostError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        names = [machine.name for machine in fleet.balancers]
        return dict(zip(names, pool.map(ask, fleet.balancers), strict=True))


def members(output: str) -> dict[str, str]:
    """Return each member's word, from HAProxy's statistics and the line of the rule.

    `yes` takes traffic; `disabled` has never been proven; `drained: …` was about to leave;
    `down: …` fails its check, with the
    reason; `rule off` where the rule itself is.
    """
    lines = [line for line in output.splitlines() if line]
    rule = "# rule on" in lines
    table = [line.removeprefix("# ") for line in lines if not line.startswith("# rule")]
    found = {}
    for entry in csv.DictReader(table):
        if entry["pxname"] == POOL and entry["svname"] not in ("BACKEND", "FRONTEND"):
            found[entry["svname"]] = _word(entry) if rule else "rule off"
    return found


def _word(entry: dict[str, str]) -> str:
    # "UP 1/2" is on its way down, "DOWN 1/2" on its way up: the first word says what it does.
    status = entry["status"].split()[0]
    if status == "UP":
        return "yes"
    if status == "MAINT":
        return "disabled"
    if status == "DRAIN":
        return DRAINED
    reason = entry.get("last_chk") or entry.get("check_desc") or ""
    return f"{status.lower()}: {reason}" if reason else status.lower()
