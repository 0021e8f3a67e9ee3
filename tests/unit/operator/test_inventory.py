"""What pyinfra is told about a fleet, through files that it runs by path."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from certsync.model.errors import FleetFileError
from certsync.model.fleet import Machine
from certsync.operator.change import Addition, Change
from certsync.operator.deployment.inventory import groups
from certsync.operator.deployment.request import DeployRequest, Options, Resolved, resolved
from certsync.operator.fleet_file import opened, read_fleet

CHECKOUT = Path(__file__).resolve().parents[3]

FLEET = """\
names = ["www.example.com"]
public_addresses = ["203.0.113.10"]
issuer = "backend-02"
[ca]
agree_to_terms = true
[balancers.balancer-01]
address = "203.0.113.10"
[backends.backend-01]
address = "b1.example.com"
private_address = "10.0.0.1"
ssh_user = "admin"
ssh_port = 2222
[backends.backend-02]
address = "203.0.113.12"
"""


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    return path


def execute(path: Path) -> dict[str, Any]:
    """Run an inventory file as pyinfra does, with `__file__` and nothing else set."""
    names: dict[str, Any] = {"__file__": str(path)}
    exec(compile(path.read_text(), path, "exec"), names)
    return names


def test_the_four_groups_have_their_machines_in_the_files_order(fleet_file: Path) -> None:
    names = [[name for name, _ in group] for group in groups(fleet_file)]
    assert names == [["backend-01", "backend-02"], ["backend-02"], ["backend-01"], ["balancer-01"]]


def test_a_host_comes_with_what_pyinfra_needs_to_reach_it(fleet_file: Path) -> None:
    fleet = read_fleet(fleet_file)
    backends, *_ = groups(fleet_file)
    assert dict(backends)["backend-01"] == {
        "_sudo": True,
        "fleet": fleet,
        "fleet_sum": hashlib.sha256(fleet_file.read_bytes()).hexdigest(),
        "machine": Machine("backend-01", "b1.example.com", "10.0.0.1", "admin", 2222),
        **asdict(Options()),
    }


def test_root_needs_no_sudo(fleet_file: Path) -> None:
    _, issuer, *_ = groups(fleet_file)
    assert dict(issuer)["backend-02"]["_sudo"] is False


def test_what_a_host_comes_with_can_be_shown_by_pyinfra(fleet_file: Path) -> None:
    def shown(value: Any) -> Any:
        return value.to_json()

    for group in groups(fleet_file):
        assert json.dumps(group, default=shown)


def test_a_fleet_file_with_mistakes_ends_pyinfra_with_all_of_them(fleet_file: Path) -> None:
    fleet_file.write_text(FLEET.replace("agree_to_terms", "agree_terms"))
    with pytest.raises(SystemExit) as caught:
        groups(fleet_file)
    assert str(caught.value) == (
        f"error: {fleet_file} has 2 mistakes\n"
        "  ca.agree_terms: unknown key\n"
        "    hint: did you mean `agree_to_terms`?\n"
        "  ca.agree_to_terms: must be true\n"
        "    hint: read the CA's terms of service (https://letsencrypt.org/repository/)"
        ", then set agree_to_terms = true"
    )


def test_the_inventory_files_are_one_and_the_same() -> None:
    inventory = CHECKOUT / "inventory"
    assert (inventory / "example.py").read_bytes() == (inventory / "lab.py").read_bytes()


def test_an_inventory_file_finds_the_fleet_file_beside_it(fleet_file: Path) -> None:
    inventory = fleet_file.with_suffix(".py")
    inventory.write_bytes((CHECKOUT / "inventory/example.py").read_bytes())
    names = execute(inventory)
    found = {name for name, value in names.items() if isinstance(value, (list, tuple))}
    assert found == {"backends", "issuer", "replicas", "balancers"}
    assert names["balancers"][0][0] == "balancer-01"


def test_the_labs_fleet_file_lacks_only_what_a_running_lab_writes() -> None:
    try:
        read_fleet(CHECKOUT / "inventory/lab.toml")
    except FleetFileError as error:
        written = {mistake.message.partition('"')[2] for mistake in error.mistakes}
        assert all(path.startswith("/run/certsync-lab/lab/") for path in written)


def test_reading_a_fleet_loads_nothing_of_pyinfra(fleet_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from certsync.inventory import groups\n"
        "groups(Path(sys.argv[1]))\n"
        "print([name for name in sys.modules if name.startswith('pyinfra')])"
    )
    command = [sys.executable, "-c", code, str(fleet_file)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_in_pyinfras_own_process_hosts_are_reached_by_openssh(fleet_file: Path) -> None:
    code = (
        "import sys, pyinfra_cli; from pathlib import Path; from certsync.inventory import groups\n"
        "groups(Path(sys.argv[1]))\n"
        "from pyinfra.connectors import ssh; print(ssh.SSHConnector.__name__)"
    )
    command = [sys.executable, "-c", code, str(fleet_file)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("OpenSSH\n", "")


def test_one_that_the_fleet_file_no_longer_names_and_that_leaves_is_a_host_of_the_run(
    fleet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Machine("backend-03", "203.0.113.13", "10.0.0.3", ssh_user="admin")
    asked = resolved(DeployRequest(opened(fleet_file).changing(Change(departing=(left,)))))
    monkeypatch.setenv("CERTSYNC_REQUEST", "stdin")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{asked.to_json()}\nmore\n"))
    backends, _issuer, replicas, _balancers = groups(fleet_file)
    assert [name for name, _ in backends] == ["backend-01", "backend-02", "backend-03"]
    assert [name for name, _ in replicas] == ["backend-01"]
    data = dict(backends)["backend-03"]
    assert (data["machine"], data["_sudo"]) == (left, True)
    assert left not in data["fleet"].backends


def test_a_request_is_handed_over_whole(fleet_file: Path) -> None:
    options = Options("kept", adopt_nginx=True, leaving="backend-01", drain_seconds=7)
    for change in (
        Change(),
        Change(remove=("backend-01",)),
        Change(issuer="backend-01"),
        Change((Addition("backend-03", "203.0.113.13"),)),
    ):
        wanted = resolved(DeployRequest(opened(fleet_file).changing(change), options))
        assert wanted.options == options
        assert Resolved.from_json(wanted.to_json()) == wanted


def test_a_backend_that_is_taken_out_is_a_host_of_the_run(fleet_file: Path) -> None:
    asked = DeployRequest(opened(fleet_file).changing(Change(remove=("backend-01",))))
    assert [each.name for each in resolved(asked).leaving] == ["backend-01"]


def test_who_is_handed_a_request_loads_nothing_that_reads_fleet_files(fleet_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from certsync.inventory import groups\n"
        "groups(Path('there is none'))\n"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'tomlkit'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        input=f"{resolved(DeployRequest(opened(fleet_file).changing(Change()))).to_json()}\n",
        env={**os.environ, "CERTSYNC_REQUEST": "stdin"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_becomes_of_a_fleet_file_after_it_was_read_is_no_part_of_the_run(
    fleet_file: Path,
) -> None:
    file = opened(fleet_file)
    asked = DeployRequest(file.changing(Change(remove=("backend-01",))))
    before = hashlib.sha256(fleet_file.read_bytes()).hexdigest()
    # Somebody edits it while the fleet lock is waited for.
    fleet_file.write_text("nonsense")
    made = resolved(asked)
    assert [each.name for each in made.fleet.backends] == ["backend-02"]
    assert [each.name for each in made.leaving] == ["backend-01"]
    assert (file.sha256, file.fleet.lineages[0].names) == (before, ("www.example.com",))


def test_a_byte_order_mark_is_no_part_of_the_text_and_part_of_the_files_sum(
    fleet_file: Path,
) -> None:
    fleet_file.write_bytes(b"\xef\xbb\xbf" + FLEET.encode())
    file = opened(fleet_file)
    assert file.text == FLEET
    assert file.sha256 == hashlib.sha256(fleet_file.read_bytes()).hexdigest()


def test_what_was_edited_while_a_command_ran_stays_when_its_change_is_saved(
    fleet_file: Path,
) -> None:
    asked = opened(fleet_file).changing(Change(remove=("backend-01",)))
    assert "backend-01" not in asked.text
    fleet_file.write_text("passthrough = false\n" + FLEET)
    asked.save()
    kept = opened(fleet_file)
    assert [each.name for each in kept.fleet.backends] == ["backend-02"]
    assert kept.fleet.passthrough is False
