"""Two balancers that share their addresses: one dies under load, and the other one goes on."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.load import NEW, Load, Target
from tests.e2e.outage import Connecting, Outage
from tests.e2e.road import NAME, Road

MOST_SECONDS = 3.0
"""For which new connections may fail when a balancer dies."""

MOST_SECONDS_IN_A_CROWD = 10.0
"""The same where the machine has more to do than it has processors for, as with other labs beside
this one: then keepalived's own clock, which counts half seconds, stands still now and then."""

MOST_SECONDS_TWICE = 1.5
"""For which two balancers may have the same address."""

HELLO = """\
cat > /tmp/hello <<'END'
# Whoever is sent away may be so before it has spoken.
trap '' PIPE
exec 3<> /dev/tcp/{address}/10000
printf 'HAProxyS 2.1\\n{to}\\n{who} 999 1\\n' >&3
timeout 3 head -c 4 <&3 | wc -c
END
bash /tmp/hello"""
"""How a peer of HAProxy's introduces itself; prints the number of bytes of what is answered."""

Say = Callable[[str], None]


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet of two balancers and two backends, with its firewalls on."""
    with bring_up(Lab("vrrp", backends=2, balancers=2)) as lab:
        road = Road(lab, tmp_path_factory.mktemp("vrrp"))
        road.edit(
            "[site]\n",
            '[firewall]\nenable = true\n\n[sessions]\nstickiness = "source"\n\n[site]\n',
        )
        ended = road.deploy()
        assert ended.status == 0, ended.everything
        yield road


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Return what prints a measurement beside the names of the tests."""

    def print_it(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="")

    return print_it


def most_seconds() -> float:
    """Return for how long new connections may fail on this machine now."""
    crowded = os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
    return MOST_SECONDS_IN_A_CROWD if crowded else MOST_SECONDS


def holders(lab: Lab) -> dict[str, list[str]]:
    """Return which balancers' machines have each of the shared addresses."""
    found: dict[str, list[str]] = {address: [] for address in lab.public}
    for machine in lab.balancers:
        if machine.running():
            shown = machine.sh("ip -o address show dev host0")
            for address in lab.public:
                found[address] += [machine.name] * (f" {address}/" in shown)
    return found


def active(lab: Lab) -> Machine:
    """Return the balancer that has all shared addresses."""
    found = {tuple(names) for names in holders(lab).values()}
    assert len(found) == 1, found
    [names] = found
    assert len(names) == 1, names
    return lab.machine(names[0])


def longest_stretch(seen: Sequence[tuple[float, bool]]) -> float:
    """Return how many seconds something was so at a stretch, from looks at it.

    It was so from the last look that did not see it to the next one that no longer does.
    """
    longest, since = 0.0, 0.0
    for moment, is_so in seen:
        if not is_so:
            since = moment
        longest = max(longest, moment - since)
    return longest


def other(lab: Lab, machine: Machine) -> Machine:
    [found] = [each for each in lab.balancers if each != machine]
    return found


def becomes(lab: Lab, machine: Machine, seconds: float = 10) -> bool:
    """Return whether a balancer alone comes to have all shared addresses."""
    wanted = {address: [machine.name] for address in lab.public}
    end = time.monotonic() + seconds
    while holders(lab) != wanted:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def connecting(road: Road, stack: ExitStack) -> list[Connecting]:
    """Begin new connections to each shared address."""
    before, roots = road.lab.operator_argv(), str(road.lab.ca.roots)
    return [
        stack.enter_context(Connecting(before, address, NAME, roots)) for address in road.lab.public
    ]


def through(road: Road, work: Callable[[], None], say: Say, what: str) -> list[Outage]:
    """Do some work under load and new connections; print and return what became of those."""
    target = Target(NAME, str(road.lab.ca.roots))
    with ExitStack() as stack:
        load = stack.enter_context(
            Load(road.lab.operator_argv(), NEW, list(road.lab.public), target, pause=0.02)
        )
        each = connecting(road, stack)
        time.sleep(0.5)
        work()
        found = [one.over() for one in each]
        tally = load.over()
    for address, outage in zip(road.lab.public, found, strict=True):
        say(f"{what}: {address}: {outage.text()}")
    say(
        f"{what}: under load {tally.requests} requests on new connections, "
        f"{tally.failed.total()} failed: {dict(tally.failed)}"
    )
    assert tally.watched
    return found


def test_the_names_lead_to_addresses_that_no_machine_has_by_itself(road: Road) -> None:
    asked = road.operator("getent", "ahosts", NAME).stdout.split()
    assert set(road.lab.public) <= set(asked)
    own = {each for one in road.lab.machines for each in (one.address, one.address6)}
    assert not own & set(road.lab.public)


def test_one_balancer_has_them_and_the_order_went_through_it(road: Road) -> None:
    first = active(road.lab)
    validated = "journalctl -q --no-pager -t haproxy | grep -c acme-challenge || :"
    assert int(first.sh(validated)) >= 2
    assert int(other(road.lab, first).sh(validated)) == 0
    assert road.generations() == {"backend-01": "0001", "backend-02": "0001"}


def test_the_page_comes_over_both_families(road: Road) -> None:
    ipv4, ipv6 = road.lab.public
    for address in (ipv4, f"[{ipv6}]"):
        got = road.operator(
            "curl", "-sS", "--fail", "--max-time", "10", "--capath", "/dev/null",
            "--cacert", str(road.lab.ca.roots),
            "--resolve", f"{NAME}:443:{address}", f"https://{NAME}/lb.html",
        )  # fmt: skip
        assert "backend-0" in got.stdout, got.everything


def test_both_are_gated_by_the_same_proof_and_status_says_who_has_the_addresses(
    road: Road,
) -> None:
    for machine in road.lab.balancers:
        text = (machine.root / "etc/haproxy/haproxy.cfg").read_text()
        assert "frontend tls" in text
        assert not re.search(r"(?m)^    server .* disabled$", text)
    shown = road.certsync("status")
    assert shown.status == 0, shown.everything
    both = ", ".join(road.lab.public)
    assert f"virtual addresses: {both} on {active(road.lab).name}\n" in shown.stdout
    rows = road.status()["rows"]
    assert {row["pool"] for row in rows if row["name"].startswith("backend")} == {"yes"}


def test_balancers_hear_each_other_and_nobody_else_is_heard(road: Road) -> None:
    for machine in road.lab.balancers:
        peer = other(road.lab, machine)
        rules = machine.sh("ufw show added")
        assert f"ufw allow from {peer.address} proto vrrp comment" in rules
        assert f"ufw allow from {peer.address} to any port 10000 proto tcp comment" in rules
        ask = f"timeout 3 bash -c '< /dev/tcp/{machine.address}/10000'"
        assert peer.attempt(ask)[0] == 0
        # Who knows a peer's name is not that peer, with the firewall off too.
        hello = HELLO.format(address=machine.address, to=machine.name, who=peer.name)
        machine.sh("ufw disable")
        stranger, heard = road.lab.backends[0].sh(hello), peer.sh(hello)
        machine.sh("ufw --force enable")
        assert stranger.split()[-1] == "0"
        assert int(heard.split()[-1]) > 0
        assert road.lab.backends[0].attempt(ask)[0] != 0


def test_a_client_comes_to_the_same_backend_whichever_balancer_it_comes_through(
    road: Road,
) -> None:
    assert len(road.pages(4)) == 1

    def remembered(machine: Machine) -> dict[str, str]:
        table = machine.sh("echo show table tls | socat - /run/haproxy/admin.sock")
        return dict(re.findall(r"key=(\S+) .*server_id=(\d+)", table))

    first, second = road.lab.balancers
    end = time.monotonic() + 5
    while remembered(first) != remembered(second) and time.monotonic() < end:
        time.sleep(0.2)
    assert remembered(first) == remembered(second) != {}


def test_the_active_balancer_loses_its_power(road: Road, say: Say) -> None:
    lab = road.lab
    lost = active(lab)
    left = other(lab, lost)

    def power_off() -> None:
        # The cable first: a machine without power does not refuse connections either.
        lost.cut()
        lost.kill()
        assert becomes(lab, left)
        time.sleep(1.5)

    for outage in through(road, power_off, say, f"power of {lost.name} cut"):
        assert outage.failed > 0
        assert outage.seconds < most_seconds()


def test_with_one_off_status_names_it_and_the_hourly_run_goes_on(road: Road) -> None:
    lab = road.lab
    off = next(machine for machine in lab.balancers if not machine.running())
    shown = road.certsync("status")
    assert shown.status == 3
    assert f"error: {off.name}: " in shown.stderr
    assert f"{', '.join(lab.public)} on {other(lab, off).name}\n" in shown.stdout
    assert road.renew().status == 0


def test_it_comes_back_and_no_new_connection_fails(road: Road, say: Say) -> None:
    lab = road.lab
    back = next(machine for machine in lab.balancers if not machine.running())
    serving = other(lab, back)

    def boot() -> None:
        back.boot()
        back.wait()
        time.sleep(4)

    for outage in through(road, boot, say, f"{back.name} comes back"):
        assert outage.failed == 0
    assert active(lab) == serving
    shown = road.certsync("status")
    assert shown.status == 0, shown.everything


def test_haproxy_alone_stops_on_the_active_one(road: Road, say: Say) -> None:
    lab = road.lab
    stopped = active(lab)

    def stop() -> None:
        stopped.sh("systemctl stop haproxy")
        assert becomes(lab, other(lab, stopped))
        time.sleep(1.5)

    for outage in through(road, stop, say, f"haproxy stopped on {stopped.name}"):
        assert outage.seconds < most_seconds()

    def start() -> None:
        stopped.sh("systemctl start haproxy")
        time.sleep(4)

    for outage in through(road, start, say, f"haproxy started on {stopped.name}"):
        assert outage.failed == 0
    assert active(lab) == other(lab, stopped)


def test_haproxy_alone_is_killed_on_the_active_one(road: Road, say: Say) -> None:
    lab = road.lab
    killed = active(lab)

    def kill() -> None:
        killed.sh("systemctl kill -s KILL haproxy")
        time.sleep(4)

    for outage in through(road, kill, say, f"haproxy killed on {killed.name}"):
        assert outage.seconds < most_seconds()
    # systemd has it back before keepalived would move anything, or just after it did.
    assert active(lab) in lab.balancers


@pytest.mark.parametrize("who", ["all", "main"])
def test_keepalived_alone_is_killed_and_two_never_have_the_addresses_for_long(
    road: Road, say: Say, who: str
) -> None:
    lab = road.lab
    killed = active(lab)
    seen: list[tuple[float, bool]] = []
    """At which second, from the kill on, two had an address."""

    def kill() -> None:
        killed.sh(f"systemctl kill -s KILL --kill-whom={who} keepalived")
        begin = time.monotonic()
        while time.monotonic() < begin + 5:
            twice = any(len(names) > 1 for names in holders(lab).values())
            seen.append((time.monotonic() - begin, twice))

    outages = through(road, kill, say, f"keepalived ({who}) killed on {killed.name}")
    for outage in outages:
        assert outage.seconds < most_seconds()
    longest = longest_stretch(seen)
    say(f"keepalived ({who}) killed: two had an address for up to {longest:.2f} s")
    # The other balancer may take over in the same moment as this one comes back.
    assert longest < MOST_SECONDS_TWICE
    assert seen
    assert not seen[-1][1]
    assert killed.sh("systemctl is-active keepalived") == "active\n"
    active(lab)


def test_both_are_as_they_were_after_all_that(road: Road) -> None:
    before = active(road.lab)
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert "\n0 changes\n" in ended.stderr
    assert active(road.lab) == before


def test_without_virtual_addresses_in_the_fleet_file_keepalived_goes(road: Road) -> None:
    lab = road.lab
    first = lab.balancer
    for name in (NAME, f"www.{NAME}"):
        lab.ca.set_address(name, ipv4=[first.address], ipv6=[first.address6])
    shared, own = (
        ", ".join(f'"{each}"' for each in addresses)
        for addresses in (lab.public, (first.address, first.address6))
    )
    road.edit(f"virtual_addresses = [{shared}]\n", "")
    road.edit(f"public_addresses = [{shared}]", f"public_addresses = [{own}]")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    assert holders(lab) == {address: [] for address in lab.public}
    for machine in lab.balancers:
        assert machine.attempt("systemctl is-active keepalived")[1] == "inactive\n"
        assert machine.attempt("systemctl is-enabled keepalived")[1] == "disabled\n"
        left = set(machine.sh("ls /etc/keepalived").split())
        assert not left & {"keepalived.conf", "haproxy-serves", "certsync-candidate.conf"}
        assert "proto vrrp" not in machine.sh("ufw show added")
    assert road.page()


def test_somebody_elses_keepalived_is_left_alone_and_refused(road: Road) -> None:
    theirs = road.lab.balancers[1]
    theirs.sh("cat > /etc/keepalived/keepalived.conf", input="# ours, by hand")
    assert road.certsync("check", "--online").status == 0
    road.edit("[balancer]\n", f'[balancer]\nvirtual_addresses = ["{road.lab.public[0]}"]\n')
    refused = road.deploy()
    assert refused.status == 1
    assert f"{theirs.name}: /etc/keepalived/keepalived.conf is not certsync's" in refused.stderr
    assert theirs.sh("cat /etc/keepalived/keepalived.conf") == "# ours, by hand\n"
