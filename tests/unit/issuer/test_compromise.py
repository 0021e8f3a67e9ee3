"""Compromised keys: what is marked, what a mark stops, and when it is over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import josepy
import pytest

from certsync.issuer import issued, replacement
from certsync.issuer.ca import due, issuance, ordering
from certsync.issuer.ca.issuance.obtain import _kept_key, forget_if_kept
from certsync.issuer.ca.issuance.pending import Pending
from certsync.issuer.ca.issuance.revoke import signer
from certsync.issuer.commands import close_account, register, rollback
from certsync.issuer.compromise import CompromisedKey, Mark, Marks
from certsync.issuer.replicas import prove, replicate
from certsync.issuer.replicas.backend import OLDER
from certsync.issuer.schedule import issuance_due
from certsync.issuer.state import LineageState
from certsync.issuer.store import Store
from certsync.model.certificate import key_pem, make_key
from certsync.model.errors import BrokenStateError, CaError, NewerSchemaError, StoreError
from certsync.model.options import KeyType
from certsync.model.proof import Proof, Verdict
from certsync.programs import receiver
from tests.unit.fake_fleet import DIRECTORY, NAME, NOW, fleet, lineage, manifest
from tests.unit.issuer import fake_disk
from tests.unit.issuer.fake_disk import Heard, render, seen

DAY = timedelta(days=1)
LOST = CompromisedKey(2, "ab", DIRECTORY, "https://ca.example/account/1", NOW + DAY, "leaf", "key")
MARK = Mark("backend-09", NOW, (CompromisedKey(1), LOST), "cd")
WHY = "the private key of generation 0002 is compromised: backend-09 may hold it"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return the store of an issuer of three backends."""
    monkeypatch.setattr(receiver, "HOME", tmp_path / "etc")
    return fake_disk.disk(tmp_path)


@pytest.fixture
def keep(store: Store, tmp_path: Path) -> Callable[[int], bytes]:
    """Return what keeps a generation of its own and lets it be live, and returns its key."""
    return lambda number: fake_disk.keep(store, tmp_path, number)


def look(store: Store) -> replacement.Outlook:
    return replacement.outlook(seen(store), LineageState(), NOW, "backend-09")


def marked(store: Store) -> None:
    """Have marked what backend-09 may hold."""
    replacement.mark(Heard().run(seen(store)), look(store))


def to_order(store: Store) -> due.Outlook:
    return due.outlook(seen(store), LineageState(), NOW)


# Marks


def test_marks_are_read_as_they_were_written() -> None:
    marks = Marks((MARK, replace(MARK, backend="backend-08").ended()))
    assert Marks.from_json(marks.to_json()) == marks
    assert Marks.from_json({}) == Marks()


def test_a_mark_that_is_done_bars_its_generations_and_keeps_no_key() -> None:
    done = Marks((MARK,)).ended()
    assert (done.open, done.exposed) == ((), {})
    assert sorted(done.numbers) == [1, 2]
    assert sorted(done.key_sums) == ["ab", "cd"]
    assert "leaf" not in str(done.to_json()["marks"][0]["exposed"][1].values())
    assert done.to_json()["marks"][0]["exposed"][1]["key"] == ""
    assert done.ended() == done


def test_a_certificate_is_revoked_once_and_only_while_a_client_would_take_it() -> None:
    assert LOST.is_to_be_revoked(NOW)
    assert not LOST.is_to_be_revoked(NOW + DAY)
    assert not CompromisedKey(1).is_to_be_revoked(NOW)
    marks = Marks((MARK, replace(MARK, backend="backend-08"))).revoked(2)
    assert [each.exposed[1].revoked for each in marks.among] == [True, True]
    assert not marks.exposed[2].is_to_be_revoked(NOW)
    assert not marks.exposed[1].revoked


def test_a_mark_that_is_done_is_forgotten_once_a_backend_of_that_name_is_there_again() -> None:
    done = Marks((MARK.ended(), replace(MARK, backend="backend-08")))
    assert done.without(["backend-01"]) == done
    assert [each.backend for each in done.without(["backend-08", "backend-09"]).among] == [
        "backend-08"
    ]


def test_a_mark_is_not_over_while_a_backend_of_that_name_is_in_the_fleet_again() -> None:
    marks = Marks((replace(MARK, backend="backend-02"), MARK))
    assert marks.returned(fleet()) == ("backend-02",)
    assert marks.ended(["backend-02"]).open == (marks.among[0],)
    assert marks.ended().returned(fleet()) == ()


def test_what_is_still_to_be_done_is_told_in_words() -> None:
    assert Marks((MARK,)).waiting() == (
        "not all keys that backend-09 may hold have been replaced: generations 0001, 0002"
    )
    assert Marks((MARK,)).ended().waiting() == ""


def test_why_a_generation_is_barred_names_everybody_who_may_hold_it() -> None:
    marks = Marks((MARK,)).having(replace(MARK, backend="backend-08"))
    assert marks.why(2) == f"{WHY.removesuffix(' may hold it')} and backend-08 may hold it"
    assert marks.why(3) == ""
    assert marks.having(MARK.ended()).of("backend-09") == MARK.ended()
    assert marks.of("backend-07") is None


# What a mark stops


def test_a_compromised_generation_is_not_the_target(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    for number in (1, 2):
        keep(number)
    store.mark_compromised(NAME, Marks((MARK,)))
    assert (seen(store).barred, seen(store).target) == ({1, 2}, None)
    keep(3)
    assert seen(store).target == 3


@pytest.mark.parametrize("marks", ["5", '[{"backend": "b"}]', '[{"at": "soon"}]'])
def test_a_broken_mark_stops_the_run_and_is_not_forgotten(store: Store, marks: str) -> None:
    path = store.state / f"compromised-{NAME}.json"
    path.write_text(f'{{"schema": 1, "marks": {marks}}}')
    with pytest.raises(BrokenStateError) as caught:
        seen(store)
    assert (caught.value.message, caught.value.hint) == (
        f"{path} is broken", f"look at it, then remove {path}"
    )  # fmt: skip


def test_a_compromised_key_is_due_to_be_replaced_at_once(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(2)
    assert to_order(store).due is None
    store.mark_compromised(NAME, Marks((MARK,)))
    found = to_order(store)
    assert found.due is not None
    assert (found.due.why, found.due.first, found.due.since) == (WHY, False, None)
    assert found.newest is not None
    assert found.newest.number == 2
    coming = found.next(NOW)
    assert coming is not None
    assert (coming.moment, coming.why) == (NOW, WHY)
    keep(3)
    assert to_order(store).due is None


def test_a_compromised_key_is_a_reason_before_all_others() -> None:
    old = manifest(2, age=61, key_type="rsa-2048")
    found = issuance_due(old, fleet(), lineage(), NOW, compromised=WHY)
    assert found is not None
    assert (found.why, found.since) == (WHY, NOW - DAY)


def test_with_reuse_a_compromised_key_is_not_used_again(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    key = keep(2)
    render(store, fleet(reuse_key=True))
    before = seen(store).manifests[2]
    assert _kept_key(seen(store), before) == key
    exposed = CompromisedKey(2, before.files["privkey.pem"])
    store.mark_compromised(NAME, Marks((replace(MARK, exposed=(exposed,)),)))
    assert _kept_key(seen(store), before) == b""


def test_an_open_order_with_a_compromised_key_is_abandoned(store: Store) -> None:
    pending = Pending(store.pending(NAME))
    pending.prepare(DIRECTORY, lineage())
    pending.remember("https://ca.example/order/1")
    forget_if_kept(seen(store))
    assert pending.url() == "https://ca.example/order/1"
    store.mark_compromised(NAME, Marks((replace(MARK, pending_sum=pending.key_sum()),)))
    forget_if_kept(seen(store))
    assert not pending.folder.exists()


def test_a_compromised_generation_is_not_gone_back_to(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(2)
    store.mark_compromised(NAME, Marks((MARK,)))
    for newer in (3, 4):
        with pytest.raises(StoreError) as caught:
            rollback.way(seen(store), NOW)
        assert caught.value.message == f"cannot roll back to generation 0002: {WHY}"
        assert caught.value.hint == "to order and roll out a new one: certsync renew --force"
        keep(newer)


def test_while_all_is_compromised_a_rollout_says_so(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    with pytest.raises(StoreError, match=r"^no generation has been issued yet$"):
        replicate.roll_out(Heard().run(seen(store)))
    keep(2)
    store.mark_compromised(NAME, Marks((MARK,)))
    with pytest.raises(StoreError) as caught:
        replicate.roll_out(Heard().run(seen(store)))
    assert (caught.value.message, caught.value.hint) == (WHY, "run `certsync issue` first")


# The command


def test_all_that_is_kept_is_marked_whole_and_the_open_order_is_dropped(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    first, second = keep(1), keep(2)
    (store.archive(NAME) / "0001" / "chain.pem").unlink()
    pending = Pending(store.pending(NAME))
    pending.prepare(DIRECTORY, lineage())
    sum_of_it = pending.key_sum()
    marked(store)
    found = store.compromised(NAME)
    assert found.numbers == {1, 2}
    assert found.exposed[1] == CompromisedKey(1)
    exposed, kept = found.exposed[2], seen(store).manifests[2]
    assert exposed.key == second.decode() != first.decode()
    assert exposed.leaf == store.files(NAME, 2)["cert.pem"].decode()
    assert (exposed.key_sum, exposed.directory) == (kept.files["privkey.pem"], DIRECTORY)
    assert (exposed.account, exposed.not_after) == (kept.account, kept.not_after)
    assert found.key_sums == {exposed.key_sum, sum_of_it}
    assert not pending.folder.exists()
    path = store.state / f"compromised-{NAME}.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_pruned_lately_is_marked_and_revoked_too(
    store: Store, keep: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {number: keep(number) for number in (1, 2)}
    issued.note(seen(store), NOW)
    leaf = store.files(NAME, 1)["cert.pem"].decode()
    shutil.rmtree(store.archive(NAME) / "0001")
    keep(3)
    issued.note(seen(store), NOW)
    assert keys[1].decode() not in store.issued_file(NAME).read_text()
    assert store.issued_file(NAME).stat().st_mode & 0o777 == 0o600
    assert look(store).marked == [1, 2, 3]
    marked(store)
    found = store.compromised(NAME).exposed
    assert sorted(found) == [1, 2, 3]
    assert (found[1].leaf, found[1].key, found[1].account) == (
        leaf, "", "https://ca.example/account/1"
    )  # fmt: skip
    asked: list[int] = []

    def revoke(exposed: CompromisedKey, *_: object) -> bool:
        asked.append(exposed.number)
        return bool(exposed.key)

    monkeypatch.setattr(issuance, "revoke", revoke)
    heard = Heard()
    assert replacement._revoke(heard.run(seen(store))) == []
    assert asked == [1, 2, 3]
    assert heard.told == [f"warning: generation 0001 {replacement.BY_NOBODY}"]
    assert heard.done == ["revoked generation 0002", "revoked generation 0003"]


def test_what_was_pruned_is_forgotten_when_it_has_expired(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(1)
    issued.note(seen(store), NOW)
    shutil.rmtree(store.archive(NAME) / "0001")
    end = issued.read(seen(store))[1].not_after
    assert end is not None
    assert issued.pruned(seen(store), end - DAY) != ()
    assert issued.pruned(seen(store), end) == ()
    issued.note(seen(store), end)
    assert issued.read(seen(store)) == {}


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 2, "issued": 3}', '{"schema": 1, "issued": [{}]}']
)
def test_a_broken_record_of_what_was_issued_is_begun_anew(
    store: Store, keep: Callable[[int], bytes], text: str
) -> None:
    store.issued_file(NAME).write_text(text)
    assert issued.read(seen(store)) == {}
    keep(1)
    issued.note(seen(store), NOW)
    assert list(issued.read(seen(store))) == [1]


def test_without_its_key_a_certificate_of_another_account_is_not_revoked(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(1)
    exposed = replace(issued.of_archive(seen(store), 1), key="")
    assert not issuance.revoke(exposed, fleet(), store)


def test_a_backend_that_would_get_the_new_key_is_not_called_compromised(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        replacement.outlook(seen(store), LineageState(), NOW, "backend-03")
    assert caught.value.message == (
        "backend-03 is still in the fleet, so it would get the new key, too"
    )
    assert caught.value.hint == (
        "remove it first: certsync remove-backend FLEET backend-03"
    )  # fmt: skip


def test_what_is_to_be_done_is_told_in_words_and_nothing_when_it_was_done(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(2)
    whole = look(store).steps()
    assert (whole[0], whole[-2:]) == (
        "record which private keys are compromised",
        [
            "revoke the certificates of these keys: generations 0002",
            "delete these keys from every backend: generations 0002",
        ],
    )
    marked(store)
    assert look(store).steps() == whole[1:]
    keep(3)
    rest = look(store).steps()
    assert rest[0] == "stage the generation on every replica that lacks it"
    assert rest[-1] == whole[-1]
    store.mark_compromised(NAME, store.compromised(NAME).ended())
    assert look(store).steps() == []
    heard = Heard()
    replacement.compromised(heard.session(store), heard.run(seen(store)), "backend-09")
    assert (heard.done, heard.told) == (
        [], ["nothing to do: all keys backend-09 may hold are revoked and deleted already"]
    )  # fmt: skip


@pytest.mark.parametrize("ending", [KeyboardInterrupt, CaError])
def test_all_lineages_are_marked_before_any_is_worked_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException]
) -> None:
    render(store, fleet(share_tickets=False, lineages=(lineage(), lineage("shop.example.net"))))
    there = list[set[str]]()

    def ordered(*_: object, **_more: object) -> None:
        marks = [NAME, "shop.example.net"]
        there.append({name for name in marks if store.compromised(name).of("backend-09")})
        raise ending("cut off")

    monkeypatch.setattr(ordering, "issue", ordered)
    heard = Heard()
    with pytest.raises(ending):
        replacement.everywhere(heard.session(store), "backend-09")
    assert there[0] == {NAME, "shop.example.net"}
    told = "marked the keys backend-09 may hold as compromised: generations none"
    assert heard.done == [f"{NAME}: {told}", f"shop.example.net: {told}"]


def test_a_backend_that_is_in_the_fleet_is_marked_in_no_lineage(store: Store) -> None:
    render(store, fleet(lineages=(lineage(), lineage("shop.example.net"))))
    heard = Heard()
    with pytest.raises(StoreError) as caught:
        replacement.everywhere(heard.session(store), "backend-03")
    why = "backend-03 is still in the fleet, so it would get the new key, too"
    assert caught.value.message == f"{NAME}: {why}; shop.example.net: {why}"
    assert heard.done == []


def test_a_mark_that_is_done_is_forgotten_by_the_rollout_to_a_backend_of_that_name(
    store: Store,
) -> None:
    store.mark_compromised(NAME, Marks((MARK.ended(),)))
    for backends, left in ((3, 1), (9, 0)):
        render(store, fleet(backends))
        with pytest.raises(StoreError):
            replicate.roll_out(Heard().run(seen(store)))
        assert len(store.compromised(NAME).among) == left


def test_no_key_is_brought_to_who_is_in_the_fleet_again_before_its_keys_are_replaced(
    store: Store,
) -> None:
    store.mark_compromised(NAME, Marks((replace(MARK, backend="backend-03"),)))
    kept, why = seen(store).without_returned()
    assert [each.name for each in kept.fleet.backends] == ["backend-01", "backend-02"]
    assert why == {
        "backend-03": "it is back in the fleet, but not all keys that it may hold have been "
        "replaced: certsync remove-backend FLEET backend-03 --compromised"
    }
    store.mark_compromised(NAME, store.compromised(NAME).ended())
    assert seen(store).without_returned() == (seen(store), {})


def test_who_is_in_the_fleet_again_too_early_is_not_proven_whatever_it_serves() -> None:
    barred = prove._barred(proof("backend-03", Verdict.IN_SYNC))
    assert barred.verdict is Verdict.WRONG
    assert barred.why.endswith("certsync remove-backend FLEET backend-03 --compromised")


def test_a_mark_that_is_done_is_not_believed_while_a_key_of_it_is_live(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(1)
    keep(2)
    marked(store)
    store.mark_compromised(NAME, store.compromised(NAME).ended())
    again = look(store)
    assert not again.is_done
    assert (again.due, again.marked) == (True, [1, 2])
    assert again.steps()[0] == "record which private keys are compromised"
    keep(3)
    assert look(store).is_done


def test_a_receiver_that_does_not_know_how_to_delete_is_to_be_replaced() -> None:
    old = {"backend-02": OLDER}
    assert OLDER == "its receiver is from an older certsync"
    assert replacement._hint(old) == (
        "update its receiver: certsync deploy FLEET; the hourly run then continues"
    )
    assert replacement._hint({"backend-02": "it does not answer"}).startswith("no action")


def proof(name: str, verdict: Verdict) -> Proof:
    return Proof(name, verdict, "", "", "", "")


def test_a_revocation_waits_for_who_can_be_reached_and_for_nobody_else() -> None:
    proofs = [
        proof("a", Verdict.IN_SYNC), proof("b", Verdict.BEHIND), proof("c", Verdict.UNREACHABLE),
        proof("d", Verdict.WRONG),
    ]  # fmt: skip
    assert replacement.waits_for(proofs) == ["b", "d"]


@pytest.mark.parametrize(
    "proofs",
    [
        pytest.param([], id="nothing was looked at"),
        pytest.param([proof("backend-01", Verdict.UNREACHABLE)], id="nobody is reached"),
        pytest.param(
            [proof("backend-01", Verdict.IN_SYNC), proof("backend-02", Verdict.BEHIND)],
            id="the old one is served",
        ),
    ],
)
def test_nothing_is_revoked_or_deleted_before_the_new_one_is_served(
    store: Store, keep: Callable[[int], bytes], proofs: list[Proof]
) -> None:
    keep(2)
    marked(store)
    keep(3)
    before = store.compromised(NAME)
    heard = Heard()
    replacement.finish(heard.run(seen(store)), proofs)
    assert store.compromised(NAME) == before
    assert store.numbers(NAME) == [2, 3]
    waiting = ["the compromised certificates will be revoked once backend-02 serves another one"]
    assert heard.told == (waiting if len(proofs) == 2 else [])


def test_while_a_compromised_one_is_live_nothing_is_revoked(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(2)
    marked(store)
    before = store.compromised(NAME)
    replacement.finish(Heard().run(seen(store)), [proof("backend-01", Verdict.IN_SYNC)])
    assert store.compromised(NAME) == before


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        (KeyType.ECDSA_P256, josepy.ES256),
        (KeyType.ECDSA_P384, josepy.ES384),
        (KeyType.RSA_2048, josepy.RS256),
    ],
)
def test_a_certificates_own_key_signs_as_its_kind_does(
    kind: KeyType, algorithm: josepy.JWASignature
) -> None:
    jwk, found = signer(make_key(kind))
    assert found == algorithm
    assert found.verify(jwk.public_key().key, b"text", found.sign(jwk.key, b"text"))


# The role


def test_a_new_issuer_enrolls_and_withdraws_what_is_above_its_live_generation(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    for number in (1, 2, 3):
        keep(number)
    receiver.point(NAME, "0001")
    store.withdraw(NAME, {3: NOW})
    found = register.outlook(store)
    assert found.steps() == [
        "log in to the CA, with a new account",
        "withdraw generation 0002: the previous issuer may have rolled it back",
    ]


def test_who_has_no_account_has_nothing_to_resign_from(store: Store) -> None:
    assert close_account.outlook(store) == []
    heard = Heard()
    close_account.close_account(heard.session(store))
    assert heard.done == []
    folder = store.account(DIRECTORY)
    folder.mkdir(parents=True)
    (folder / "key.pem").write_bytes(key_pem(make_key(KeyType.ECDSA_P256)))
    assert close_account.outlook(store) == [
        f"deactivate our account at {DIRECTORY}", f"remove {folder}"
    ]  # fmt: skip


def test_who_knows_of_keys_in_wrong_hands_does_not_resign(store: Store) -> None:
    store.mark_compromised(NAME, Marks((MARK,)))
    with pytest.raises(StoreError) as caught:
        close_account.close_account(Heard().session(store))
    assert caught.value.message == (
        "this issuer cannot be retired yet: not all keys that backend-09 may hold have been "
        "replaced: generations 0001, 0002"
    )
    assert caught.value.hint == (
        "finish that first: `sudo certsync renew` here shows what it is waiting for"
    )
    store.mark_compromised(NAME, store.compromised(NAME).ended())
    close_account.close_account(Heard().session(store))


def test_state_of_a_newer_version_keeps_no_key_from_being_marked(
    store: Store, keep: Callable[[int], bytes]
) -> None:
    keep(2)
    render(store, fleet(share_tickets=False))
    store.state_file.write_text('{"schema": 9}')
    with pytest.raises(NewerSchemaError):
        replacement.everywhere(Heard().session(store), "backend-09")
    assert store.compromised(NAME).of("backend-09")
