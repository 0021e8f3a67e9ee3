"""TLS sessions through the balancer: one that a backend began goes on with every other."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from certsync.programs import receiver
from lab import Lab, Machine
from tests.e2e.conftest import BringUp
from tests.e2e.road import NAME, Road
from tests.e2e.sessions import FIRST, LAST, Connections, Tally

CONNECTIONS = 1000
ALL = {"backend-01", "backend-02", "backend-03"}
KEYS = "/run/certsync-tickets/live"
NGINX_FILE = "/etc/nginx/conf.d/certsync-tickets.conf"
INBOX = "/run/certsync-receive/tickets"


@pytest.fixture(scope="module")
def road(bring_up: BringUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Return a deployed fleet of three backends."""
    with bring_up(Lab("sessions")) as lab:
        road = Road(lab, tmp_path_factory.mktemp("sessions"))
        ended = road.as_announced("deploy")
        assert ended.status == 0, ended.everything
        assert "Share session ticket keys" in ended.stdout
        yield road


def connections(
    road: Road, version: str, offer: str = LAST, count: int = CONNECTIONS
) -> Connections:
    lab = road.lab
    words = (lab.balancer.address, NAME, str(lab.ca.roots), version, offer, str(count))
    return Connections(lab.operator_argv(), *words)


def keys(machine: Machine) -> dict[str, bytes]:
    """Return the keys that a backend's nginx has, by the names of their files."""
    told = machine.sh(f"cd {KEYS} && od -An -v -tx1 -w80 {' '.join(receiver.TICKET_KEYS)}")
    lines = [bytes.fromhex(line) for line in told.splitlines()]
    return dict(zip(receiver.TICKET_KEYS, lines, strict=True))


def shared(road: Road) -> dict[str, bytes]:
    """Return the keys, which are the same on every backend."""
    first, *others = [keys(machine) for machine in road.backends]
    assert all(each == first for each in others)
    assert {len(key) for key in first.values()} == {receiver.TICKET_KEY_SIZE}
    assert len(set(first.values())) == 3
    return first


def test_a_deploy_has_all_backends_share_the_keys_and_again_changes_nothing(road: Road) -> None:
    shared(road)
    for machine in road.backends:
        told = machine.sh(f"stat -L -c '%a %U' {receiver.TICKETS} {KEYS} {KEYS}/*.key")
        assert told.split("\n")[:-1] == ["700 root"] * 2 + ["600 root"] * 3
    ended = road.deploy("--json")
    assert '"done": []' in ended.stdout
    ended = road.on_issuer("tickets", "--dry-run", "--json")
    assert json.loads(ended.stdout) == {"steps": []}
    ended = road.on_issuer("tickets")
    assert (ended.status, ended.stdout) == (0, "nothing to do\n")
    ended = road.renew()
    assert (ended.status, ended.stdout) == (0, "nothing was due\n")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_connections_through_the_balancer_go_on_with_the_last_ones_session_across_rotations(
    road: Road, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [shared(road)]
    with connections(road, version) as flowing:
        for _ in range(3):
            ended = road.on_issuer("tickets", "--rotate")
            assert ended.status == 0, ended.everything
            sets.append(shared(road))
        tally = flowing.over()
    for before, after in itertools.pairwise(sets):
        assert after["previous.key"] == before["current.key"]
        assert after["current.key"] == before["next.key"]
        assert after["next.key"] not in before.values()
    with capsys.disabled():
        print(f"\nTLS {version}, shared: {tally}")
    assert tally.connections >= CONNECTIONS
    assert set(tally.versions) == {f"TLSv{version}"}
    assert set(tally.backends) == ALL
    assert tally.share >= 0.99


def test_after_a_day_the_hourly_run_rotates_once_and_once_more_when_the_clock_was_wrong(
    road: Road,
) -> None:
    road.issuer.sh("apt-get install -y -qq faketime")
    before = shared(road)
    assert road.renew(offset="+23h").stdout == "nothing was due\n"
    ended = road.renew(offset="+25h")
    assert ended.status == 0, ended.everything
    assert "rotated the session ticket keys\n" in ended.stdout
    after = shared(road)
    assert after["current.key"] == before["next.key"]
    assert road.renew(offset="+25h").stdout == "nothing was due\n"
    # By the right clock that set is of tomorrow.
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert shared(road)["current.key"] == after["next.key"]
    assert road.renew().stdout == "nothing was due\n"


def test_a_replica_that_boots_while_the_issuer_is_off_serves_at_once_and_shares_an_hour_later(
    road: Road,
) -> None:
    replica, before = road.replicas[-1], shared(road)
    road.issuer.power_off()
    replica.power_off()
    replica.boot()
    replica.wait()
    assert replica.sh("systemctl is-active nginx") == "active\n"
    assert "BEGIN CERTIFICATE" in road.shown_by(replica.address)
    own = keys(replica)
    assert not set(own.values()) & set(before.values())
    road.issuer.boot()
    road.issuer.wait()
    assert "BEGIN CERTIFICATE" in road.shown_by(road.issuer.address)
    # The issuer has keys of its own now too, and they become everybody's.
    ended = road.renew()
    assert ended.status == 0, ended.everything
    assert "shared the session ticket keys with backend-02, backend-03" in ended.stdout
    assert not set(shared(road).values()) & {*before.values(), *own.values()}
    replica.sh(f"rm -r {receiver.TICKETS} && systemctl restart nginx")
    ended = road.on_issuer("tickets", "--dry-run")
    assert ended.stdout == "backend-03: push the session ticket keys\n"
    ended = road.renew()
    assert (ended.status, ended.stdout) == (
        0, "shared the session ticket keys with backend-03\n"
    )  # fmt: skip
    shared(road)


def test_a_replica_that_serves_and_is_not_reached_over_ssh_is_named_and_caught_up(
    road: Road,
) -> None:
    replica = road.replicas[0]
    replica.sh(f"rm -r {receiver.TICKETS} && systemctl restart nginx && chmod 700 {INBOX}/..")
    ended = road.renew()
    assert ended.status == 1
    assert "error: not all backends have the session ticket keys: backend-02: " in ended.stderr
    assert "backend-03" not in ended.stderr.split("error: ")[1]
    replica.sh(f"chmod 755 {INBOX}/..")
    ended = road.renew()
    assert ended.status == 0, ended.everything
    shared(road)


def found(folder: Path, needles: list[bytes]) -> set[bytes]:
    """Return which of the needles are in any file below a folder."""
    seen = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            seen |= {needle for needle in needles if needle in content}
    return seen


def test_the_keys_are_on_no_disk_and_in_no_log(road: Road) -> None:
    sets = [shared(road)]
    assert road.on_issuer("tickets", "--rotate").status == 0
    sets.append(shared(road))
    raw = {key for each in sets for key in each.values()}
    written = [*raw, *(each.hex().encode() for each in raw), *map(base64.b64encode, raw)]
    for machine in (*road.backends, road.lab.balancer):
        # The host's own SSH keys certainly are on its disk, and are found in the same way.
        private = b"PRIVATE KEY"
        assert found(machine.root.parent / "upper", [*written, private]) == {private}
        journal = machine.sh("journalctl -a -q --no-pager -o export | base64 -w0")
        assert found_in(base64.b64decode(journal), written) == set()
    assert found(road.folder, written) == set()
    for machine in road.backends:
        kinds = machine.sh(f"stat -f -c %T {receiver.TICKETS}").split()
        assert kinds == ["tmpfs"]
    for machine in road.replicas:
        assert machine.sh(f"stat -f -c %T {INBOX}; ls -A {INBOX}") == "tmpfs\n"
    assert road.issuer.attempt("ls /run/certsync-push/outbox")[0] != 0


def found_in(content: bytes, needles: list[bytes]) -> set[bytes]:
    return {needle for needle in needles if needle in content}


def test_without_sharing_a_session_goes_on_only_where_it_began(
    road: Road, capsys: pytest.CaptureFixture[str]
) -> None:
    road.edit("[ca]\n", "[sessions]\nshare_tickets = false\n\n[ca]\n")
    ended = road.as_announced("deploy")
    assert ended.status == 0, ended.everything
    assert "Share session ticket keys" not in ended.stdout
    for machine in road.backends:
        told = machine.sh(
            f"ls -d {NGINX_FILE} {receiver.TICKETS} {INBOX}/.. /etc/systemd/system/*tickets* "
            "/etc/tmpfiles.d/certsync* 2>/dev/null || :; systemctl restart nginx"
        )
        assert told == ""
    assert road.renew().status == 0
    assert road.on_issuer("tickets", "--dry-run").stdout == "nothing to do\n"
    tallies: dict[str, Tally] = {}
    for version, offer in itertools.product(("1.2", "1.3"), (FIRST, LAST)):
        with connections(road, version, offer, CONNECTIONS // 2) as flowing:
            tallies[f"{version} {offer}"] = flowing.over()
    with capsys.disabled():
        for what, tally in tallies.items():
            print(f"\nTLS {what}, not shared: {tally}")
    for version in ("1.2", "1.3"):
        kept, last = tallies[f"{version} {FIRST}"], tallies[f"{version} {LAST}"]
        assert set(kept.backends) == set(last.backends) == ALL
        # A ticket is good for one of three; that of the connection before for none in turn.
        assert 0.2 < kept.share < 0.45
        assert last.share < 0.45
    road.edit("share_tickets = false", "share_tickets = true")
    ended = road.deploy()
    assert ended.status == 0, ended.everything
    shared(road)


def test_who_leaves_with_compromised_keys_takes_none_along_that_is_used_after(road: Road) -> None:
    before, leaving = shared(road), road.lab.machine("backend-03")
    ended = road.certsync("remove-backend", leaving.name, "--compromised")
    assert ended.status == 0, ended.everything
    assert not set(before.values()) & set(shared(road).values())
    assert leaving.sh(f"ls -d {NGINX_FILE} {receiver.TICKETS} 2>/dev/null || :") == ""
    assert road.renew().status == 0


def test_after_certsync_has_left_nginx_starts_after_a_reboot(road: Road) -> None:
    ended = road.as_announced("leave")
    assert ended.status == 0, ended.everything
    assert ended.stdout.count('"what": "No shared session ticket keys"') == 2
    for machine in road.backends:
        machine.power_off()
        machine.boot()
    for machine in road.backends:
        machine.wait()
        assert machine.sh("systemctl is-active nginx") == "active\n"
        assert machine.attempt(f"ls {receiver.TICKETS} {NGINX_FILE}")[0] != 0
        assert "BEGIN CERTIFICATE" in road.shown_by(machine.address)
