"""`certsync init` writes a fleet file to start from, and `certsync check` says what it means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomlkit

from certsync.model.errors import CertsyncError, FleetFileError
from certsync.operator.commands.check import check
from certsync.operator.commands.init import INVENTORY, init
from certsync.operator.fleet_file import parse_fleet, read_fleet
from certsync.operator.fleet_file.places import NAME
from certsync.operator.fleet_file.schema import FILE

CHECKOUT = Path(__file__).resolve().parents[3]
TEMPLATE = CHECKOUT / "certsync/operator/fleet_file/template.toml"

ROOT = """\
-----BEGIN CERTIFICATE-----
MIHQMIGDoAMCAQICAQEwBQYDK2VwMBExDzANBgNVBAMMBmEgcm9vdDAgFw0yMDAx
MDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowETEPMA0GA1UEAwwGYSByb290MCow
BQYDK2VwAyEAzbh4gzTPktazmI5yABuXZ/PVf5ifUD6oufYYguiH4eAwBQYDK2Vw
A0EAyOJ3Gyt8D73xa6mIWkBIcnPTXU/RIbFrr/vO4UfApIC3oGjduslptGWz/S4W
FSXmqrUliwecLjljsUAUPigCAA==
-----END CERTIFICATE-----
"""
"""A self-signed certificate whose private key is nowhere."""


def agree(path: Path) -> None:
    text = path.read_text()
    assert text.count("agree_to_terms = false") == 1
    path.write_text(text.replace("agree_to_terms = false", "agree_to_terms = true"))


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(CertsyncError) as caught:
        init(path)
    return caught.value.message, caught.value.hint


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is written


def test_init_writes_a_fleet_file_and_its_inventory_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(Path("inventory/my fleet.toml")) == (
        "wrote inventory/my fleet.toml\n"
        "wrote inventory/my fleet.py\n"
        "\n"
        "Edit inventory/my fleet.toml:\n"
        "  names, public_addresses   the names on the certificate, and the addresses DNS gives for "
        "them\n"
        "  agree_to_terms            in [ca], after reading the CA's terms of service\n"
        "  address                   of each machine, under [balancers.NAME] and [backends.NAME]\n"
        "\n"
        "Then check it for mistakes:\n"
        "  certsync check 'inventory/my fleet.toml'"
    )
    assert Path("inventory/my fleet.toml").read_bytes() == TEMPLATE.read_bytes()
    assert Path("inventory/my fleet.py").read_text() == INVENTORY


def test_nothing_else_is_left_behind(tmp_path: Path) -> None:
    init(tmp_path / "fleet.toml")
    assert names_in(tmp_path) == ["fleet.py", "fleet.toml"]


def test_the_examples_are_what_init_writes() -> None:
    assert (CHECKOUT / "inventory/example.toml").read_bytes() == TEMPLATE.read_bytes()
    assert (CHECKOUT / "inventory/example.py").read_text() == INVENTORY


def test_a_fresh_fleet_file_lacks_nothing_but_the_users_agreement(tmp_path: Path) -> None:
    init(tmp_path / "fleet.toml")
    with pytest.raises(FleetFileError) as caught:
        read_fleet(tmp_path / "fleet.toml")
    assert [mistake.place for mistake in caught.value.mistakes] == ["ca.agree_to_terms"]


def test_a_fresh_fleet_file_is_the_tutorials_fleet_once_agreed(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    init(path)
    agree(path)
    fleet = read_fleet(path)
    assert fleet.lineages[0].names == ("passthrough.example.com",)
    assert [host.name for host in fleet.machines] == ["backend-01", "backend-02", "balancer-01"]
    assert fleet.issuer_name == "backend-01"


def uncommented() -> str:
    """Return the template with every option in force, as a person would switch them on."""
    return re.sub(r"(?m)^# (?=[a-z_]+ = )", "", TEMPLATE.read_text())


def test_every_option_is_shown_in_its_table() -> None:
    shown = tomlkit.parse(uncommented()).unwrap()
    assert set(shown) == set(FILE) - {"lineages"}
    for name, keys in FILE.items():
        if isinstance(keys, dict) and NAME not in keys:
            assert set(shown[name]) == set(keys), name
    assert set(shown["backends"]["backend-02"]) == set(FILE["backends"][NAME])


def test_one_more_lineage_is_shown_with_all_that_it_may_say() -> None:
    shown = "\n".join(re.findall(r"(?m)^#   (.*)$", TEMPLATE.read_text()))
    (lineage,) = tomlkit.parse(shown).unwrap()["lineages"].values()
    assert set(lineage) == set(FILE["lineages"][NAME])


def test_what_is_commented_out_is_what_holds_without_it() -> None:
    # Left out: what is an example and no default, or names files that are not here.
    examples = (
        r"contact|directory_bundle|roots|eab_key_id|profile|key|known_hosts|upstream|events|folder"
        r"|private_address|ssh_\w+|virtual_addresses|networks|served_by|load_balancer"
    )
    text = re.sub(rf"(?m)^({examples}) = .*\n", "", uncommented())
    agreed = "agree_to_terms = true"
    bare = TEMPLATE.read_text().replace("agree_to_terms = false", agreed)
    full = text.replace("agree_to_terms = false", agreed)
    nowhere = Path("/nowhere")
    assert parse_fleet(full, "full", nowhere) == parse_fleet(bare, "bare", nowhere)


# What is refused


def test_a_fleet_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text("mine")
    assert refusal(path) == (f"{path} already exists", "edit it, or choose another path")
    assert path.read_text() == "mine"
    assert names_in(tmp_path) == ["fleet.toml"]


def test_a_link_that_leads_nowhere_is_there_too(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.symlink_to(tmp_path / "elsewhere")
    assert refusal(path) == (f"{path} already exists", "edit it, or choose another path")
    assert not (tmp_path / "elsewhere").exists()


def test_an_inventory_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "fleet.py").write_text("mine")
    shown = init(tmp_path / "fleet.toml")
    assert f"{tmp_path}/fleet.py already exists; left unchanged" in shown.splitlines()
    assert (tmp_path / "fleet.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "better"),
    [
        pytest.param("fleet", "fleet.toml", id="no suffix"),
        pytest.param("fleet.py", "fleet.toml", id="the inventory's name"),
        pytest.param("folder", "folder/fleet.toml", id="a folder"),
    ],
)
def test_a_fleet_file_ends_in_toml(tmp_path: Path, name: str, better: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    hint = f"`certsync init {tmp_path}/{better}`"
    assert refusal(path) == (f"{path} does not end in .toml", hint)
    assert names_in(tmp_path) == ["folder"]


@pytest.mark.parametrize("stem", ["certsync", "pyinfra", "platform"])
def test_a_name_whose_inventory_would_hide_a_python_module_is_refused(
    tmp_path: Path, stem: str
) -> None:
    path = tmp_path / f"{stem}.toml"
    assert refusal(path) == (
        f"the inventory beside {path} would be {stem}.py, which hides a Python module",
        f"`certsync init {tmp_path}/fleet.toml`",
    )


def test_a_place_that_cannot_be_written_to_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "fleet.toml"
    message, hint = refusal(path)
    assert message == f"{path} cannot be written: not a directory"
    assert hint == "choose a path that you can write to"


# What check says


def test_check_says_in_one_line_what_a_good_fleet_file_means(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    init(path)
    agree(path)
    assert check(path) == (
        f"{path} is fine: 1 name, issuer backend-01, 1 replica, 1 balancer, signed by Let's Encrypt"
    )


def test_check_says_when_a_certificate_will_not_be_publicly_trusted(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    (tmp_path / "roots.pem").write_text(ROOT)
    path.write_text(
        """
        names = ["a.example.com", "b.example.com"]
        public_addresses = ["203.0.113.10"]
        [ca]
        directory = "https://203.0.113.3:14000/dir"
        agree_to_terms = true
        roots = "roots.pem"
        [balancers.lb]
        address = "203.0.113.10"
        [backends.a]
        address = "203.0.113.11"
        """
    )
    assert check(path) == (
        f"{path} is fine: 2 names, issuer a, 0 replicas, 1 balancer,"
        " signed by https://203.0.113.3:14000/dir\n"
        "its certificate will not be publicly trusted: browsers reject it"
    )


def test_check_of_a_bad_fleet_file_fails_with_its_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match="has 1 mistake"):
        check(tmp_path / "fleet.toml")
