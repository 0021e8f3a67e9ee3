"""The issuer's disk: generations are written whole, state is never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.memory import Memory
from certsync.issuer.replicas import prove
from certsync.issuer.state import LineageState, State
from certsync.issuer.store import Store, generation_files, sums
from certsync.model.certificate import belongs, key_pem, load_key, make_csr, make_key, parse_chain
from certsync.model.errors import StoreError
from certsync.model.options import KeyType
from certsync.programs import receiver
from certsync.system.files import write_whole
from tests.unit.fake_fleet import NAME, NOW, fleet, manifest
from tests.unit.issuer.fake_disk import keep, seen
from tests.unit.programs.test_receiver import make_pair


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store in a folder of its own."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    receiver.make_folder(tmp_path / "etc")
    (tmp_path / "state").mkdir()
    return Store(tmp_path / "etc", tmp_path / "state")


def test_a_kept_generation_is_whole_and_verified_by_the_receiver(
    store: Store, tmp_path: Path
) -> None:
    make_pair(tmp_path)
    key = (tmp_path / "privkey.pem").read_bytes()
    certificate = parse_chain((tmp_path / "cert.pem").read_text())
    files = sums(generation_files(key, certificate))
    store.keep(manifest(1, files=files), key, certificate)
    assert store.kept(NAME)[1].manifest.files == files
    receiver.verify_sums(store.archive(NAME) / "0001")
    assert belongs(load_key(key), certificate)
    with pytest.raises(StoreError, match="0001 already exists"):
        store.keep(manifest(1, files=files), key, certificate)


def kept(store: Store, tmp_path: Path, number: int) -> Path:
    """Keep a generation of its own, and return its folder."""
    keep(store, tmp_path, number, live=False)
    return store.archive(NAME) / f"{number:04}"


def test_a_damaged_generation_is_as_good_as_none_and_its_number_is_not_used_again(
    store: Store, tmp_path: Path
) -> None:
    kept(store, tmp_path, 1)
    newest = kept(store, tmp_path, 2)
    assert seen(store, fleet()).target == 2
    (newest / "privkey.pem").write_text("half a key")
    assert (seen(store, fleet()).target, seen(store, fleet()).damaged) == (1, [2])
    (newest / "manifest.json").write_text("{")
    assert (seen(store, fleet()).target, seen(store, fleet()).damaged) == (1, [2])
    assert store.numbers(NAME) == [1, 2]


def test_a_generation_that_a_newer_certsync_wrote_is_left_out_and_its_number_not_used_again(
    store: Store, tmp_path: Path
) -> None:
    kept(store, tmp_path, 1)
    path = kept(store, tmp_path, 2) / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    found = seen(store, fleet())
    assert (found.target, found.damaged, found.numbers) == (1, [2], [1, 2])


@pytest.mark.parametrize("at", ["5", '{"0002": "soon"}', '{"two": "2026-11-21T12:00:00+00:00"}'])
def test_a_broken_note_of_what_was_rolled_back_stops_the_run_and_is_not_forgotten(
    store: Store, at: str
) -> None:
    path = store.state / f"withdrawn-{NAME}.json"
    path.write_text(f'{{"schema": 1, "at": {at}}}')
    with pytest.raises(StoreError) as caught:
        store.withdrawn(NAME)
    assert (caught.value.message, caught.value.hint) == (
        f"{path} is broken", f"look at it, then remove {path}"
    )  # fmt: skip


def test_what_was_rolled_back_is_not_the_target(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        kept(store, tmp_path, number)
    store.withdraw(NAME, {2: NOW})
    assert (store.withdrawn(NAME), seen(store, fleet()).target) == ({2: NOW}, 1)


def test_what_the_issuers_receiver_refuses_is_not_the_target(store: Store, tmp_path: Path) -> None:
    kept(store, tmp_path, 1)
    kept(store, tmp_path, 2)
    store.refuse(NAME, 2, "clients would reject it")
    assert seen(store, fleet()).target == 1
    store.refuse(NAME, 3, "nor this one")
    assert store.refused(NAME) == {2: "clients would reject it", 3: "nor this one"}
    store.refuse(NAME, 1, "what is gone is forgotten")
    assert sorted(store.refused(NAME)) == [1, 2]


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 1, "why": {"x": 1}}', '{"schema": 1, "why": 3}']
)
def test_a_broken_note_of_what_was_refused_is_forgotten(store: Store, text: str) -> None:
    (store.state / f"refused-{NAME}.json").write_text(text)
    assert store.refused(NAME) == {}


def test_no_link_is_no_current_generation(store: Store) -> None:
    assert store.current(NAME) is None
    receiver.point(NAME, "0003")
    assert store.current(NAME) == 3


def test_a_host_that_is_no_issuer_is_told_so(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.fleet()
    assert caught.value.message.endswith("fleet.json does not exist: this host is not an issuer")
    assert "certsync deploy FLEET" in caught.value.hint


def test_the_rendered_fleet_is_read(store: Store) -> None:
    store.fleet_file.write_text(json.dumps(fleet().to_json()))
    assert store.fleet() == fleet()


def test_state_of_a_newer_schema_is_refused_and_left_alone(store: Store) -> None:
    path = store.state / "withdrawn.json"
    path.write_text('{"schema": 7}')
    with pytest.raises(StoreError) as caught:
        store.read_state(path)
    assert caught.value.message == f"{path} has schema 7, but this certsync reads up to 2"
    assert path.read_text() == '{"schema": 7}'


def test_the_newest_whole_generation_stands_for_a_live_one_that_is_lost(
    store: Store, tmp_path: Path
) -> None:
    assert seen(store, fleet()).live is None
    kept(store, tmp_path, 1)
    damaged = kept(store, tmp_path, 2)
    receiver.point(NAME, "0001")
    for number, lost in ((1, False), (1, True)):
        if lost:
            receiver.point(NAME, "0002")
            (damaged / "chain.pem").write_text("x")
        found = seen(store, fleet()).live
        assert found is not None
        assert found.number == number
    store.live(NAME).unlink()
    assert seen(store, fleet()).live is not None
    receiver.point(NAME, "0000")
    assert seen(store, fleet()).live is None


@pytest.mark.parametrize(
    "changes",
    [{"asked_all": "2026-11-21T12:00:00"}, {"revocation_asked": "soon"}, {"tries": {"count": "x"}}],
)
def test_state_whose_moments_cannot_be_compared_is_broken(
    store: Store, changes: dict[str, object]
) -> None:
    data = State({NAME: LineageState()}).to_json()
    data["lineages"][NAME].update(changes)
    store.write_state(store.state_file, data)
    assert Memory(store).state == State()
    assert Memory(store).put_broken_aside() is not None


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1, "lineages": 3}', "[" * 100_000])
def test_broken_state_is_put_aside_and_begun_anew(store: Store, text: str) -> None:
    store.state_file.write_text(text)
    memory = Memory(store)
    aside = memory.put_broken_aside()
    assert aside == store.state / "state.json.broken"
    assert (aside.read_text(), store.state_file.exists()) == (text, False)
    assert memory.put_broken_aside() is None
    memory.keep(State(last_success=NOW))
    assert memory.put_broken_aside() is None
    assert Memory(store).state.last_success == NOW


def test_broken_state_is_told_with_its_place(store: Store) -> None:
    path = store.state / "withdrawn.json"
    path.write_text("{")
    with pytest.raises(StoreError) as caught:
        store.read_state(path)
    assert caught.value.message == f"{path} is broken"
    assert caught.value.hint == f"look at it, then remove {path}"


def test_a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    write_whole(path, b"new", mode=0o640)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_that_cannot_be_written_is_found_before_an_order_is_spent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prove_writable()

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as caught:
        store.prove_writable()
    assert caught.value.message == f"{store.root} cannot be written: No space left on device"
    assert store.unwritable() == caught.value.message
    shown = prove.prove([seen(store, fleet())], Memory(store), NOW, proven=lambda: {NAME: []})
    assert shown.to_json()["unwritable"] == caught.value.message
    assert "df -h" in caught.value.hint
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("kind", [KeyType.ECDSA_P256, KeyType.ECDSA_P384, KeyType.RSA_2048])
def test_a_key_of_each_kind_signs_a_request_for_all_names(kind: KeyType) -> None:
    key = make_key(kind)
    assert load_key(key_pem(key)).public_key() == key.public_key()
    csr = make_csr(key, (NAME, f"www.{NAME}"))
    assert csr.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
    assert isinstance(key, ec.EllipticCurvePrivateKey) == kind.value.startswith("ecdsa")


def test_a_first_name_too_long_for_a_common_name_is_left_out_of_the_subject() -> None:
    long = "a" * 60 + ".example.com"
    assert make_csr(make_key(KeyType.ECDSA_P256), (long,))


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"])
def test_what_is_no_chain_is_told(text: str) -> None:
    with pytest.raises(StoreError, match=r"^not a certificate chain"):
        parse_chain(text)
