"""When a set of session ticket keys is replaced, who is given it, and what is told."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certsync.issuer import canary, steps
from certsync.issuer.compromise import Mark, Marks
from certsync.issuer.replicas import admission, outgoing, receivers
from certsync.issuer.replicas.backend import Backend
from certsync.issuer.replicas.rollout import Standing
from certsync.issuer.run import Run
from certsync.issuer.situation import look_at_all
from certsync.issuer.steps import Step
from certsync.issuer.tickets import keyring, resumption, share
from certsync.issuer.tickets.decide import Keys, Note, Plan, Seen, plan
from certsync.model import codec
from certsync.model.errors import FencedError, HostError, TicketsError
from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof, Verdict
from certsync.operator.deployment import operations
from certsync.operator.deployment.dependents import completed
from certsync.operator.deployment.plan import Step as Announced
from certsync.operator.rendering import templates
from certsync.programs import receiver
from tests.unit.fake_fleet import NAME, NOW, fleet, lineage
from tests.unit.issuer.fake_disk import Heard, disk, render

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
BOTH = ("backend-02", "backend-03")
ALL_SHARE = Seen(BOTH, serving=("backend-01", *BOTH))
NEW = Note(NOW, BOTH)


def key(letter: str) -> bytes:
    return (letter.encode() + bytes(range(256)))[: receiver.TICKET_KEY_SIZE]


# Decisions


def test_a_key_is_known_before_it_is_used_and_for_as_long_after() -> None:
    keys = Keys(b"a", b"b", b"c").rotated(b"d")
    assert keys == Keys(current=b"b", next=b"d", previous=b"a")
    assert keys.rotated(b"e") == Keys(current=b"d", next=b"e", previous=b"b")


def test_a_set_has_the_files_that_nginx_reads_and_does_not_show_its_keys() -> None:
    keys = Keys(key("a"), key("b"), key("c"))
    assert tuple(keys.files()) == receiver.TICKET_KEYS
    assert Keys.of(keys.files()) == keys
    assert repr(keys) == "Keys()"


def test_while_all_share_the_keys_of_less_than_a_day_nothing_is_done() -> None:
    assert plan(NEW, ALL_SHARE, NOW) == Plan()
    assert plan(NEW, ALL_SHARE, NOW + DAY - HOUR).steps() == []


def test_after_a_day_the_keys_are_rotated() -> None:
    found = plan(NEW, ALL_SHARE, NOW + DAY)
    assert found == Plan(rotate=True)
    assert found.steps() == ["rotate the session ticket keys and push them to every replica"]


def test_a_person_has_them_rotated_at_any_time() -> None:
    assert plan(NEW, ALL_SHARE, NOW, interactive=True) == Plan(
        rotate=True, despite_unreachable=True
    )


def test_a_set_that_nobody_was_given_is_pushed_to_all_and_is_new() -> None:
    found = plan(None, ALL_SHARE, NOW)
    assert found == Plan(push=BOTH)
    assert found.steps() == [f"{name}: push the session ticket keys" for name in BOTH]


def test_who_missed_the_last_set_or_takes_no_ticket_is_given_it() -> None:
    assert plan(Note(NOW, ("backend-03",)), ALL_SHARE, NOW).push == ("backend-02",)
    not_resuming = replace(ALL_SHARE, not_resuming=("backend-03",))
    assert plan(NEW, not_resuming, NOW).push == ("backend-03",)


def test_who_does_not_serve_what_it_should_is_given_none_and_holds_up_no_rotation() -> None:
    seen = Seen(BOTH, serving=("backend-01", "backend-02"))
    assert plan(Note(NOW, ("backend-02",)), seen, NOW) == Plan()
    assert plan(Note(NOW, ("backend-02",)), seen, NOW + DAY) == Plan(rotate=True)


def test_a_set_of_two_days_is_replaced_though_somebody_lacks_it() -> None:
    missed = Note(NOW, ("backend-03",))
    assert plan(missed, ALL_SHARE, NOW + DAY) == Plan(push=("backend-02",), rotate=True)
    late = plan(missed, ALL_SHARE, NOW + 2 * DAY)
    assert late == Plan(push=("backend-02",), rotate=True, despite_unreachable=True)


def test_a_set_from_the_future_is_replaced_once_and_a_small_difference_is_none() -> None:
    assert plan(Note(NOW + HOUR, BOTH), ALL_SHARE, NOW) == Plan(
        rotate=True, despite_unreachable=True
    )
    assert plan(Note(NOW + timedelta(minutes=4), BOTH), ALL_SHARE, NOW) == Plan()


def test_after_a_compromise_all_keys_are_replaced_once() -> None:
    seen = replace(ALL_SHARE, compromises=("backend-04 then",))
    for note in (None, NEW, replace(NEW, against=("backend-05 then",))):
        assert plan(note, seen, NOW) == Plan(replace=True)
    assert plan(replace(NEW, against=("backend-04 then", "x")), seen, NOW) == Plan()
    assert Plan(replace=True).steps() == [
        "replace all session ticket keys and push them to every replica"
    ]


def test_a_note_is_read_as_it_was_written() -> None:
    note = Note(NOW, BOTH, ("backend-04 then",))
    assert codec.typed(json.loads(json.dumps(codec.plain(note))), Note) == note


@pytest.mark.parametrize("on", [True, False])
def test_nginx_is_told_of_the_keys_in_their_order_or_not_at_all(on: bool) -> None:
    wanted = fleet(share_tickets=on)
    files = templates.nginx(wanted, wanted.issuer, http2_directive=True)
    text = files.get("conf.d/certsync-tickets.conf", "")
    keys = [line.split()[1] for line in text.splitlines() if line.startswith("ssl_")]
    expected = [f"{receiver.TICKETS}/live/{name};" for name in receiver.TICKET_KEYS]
    assert keys == (expected if on else [])


@pytest.mark.parametrize("on", [True, False])
def test_a_deploy_announces_sharing_only_where_it_is_wished_for(on: bool) -> None:
    told = completed([Announced("2 of 6", "backend-02", "nginx")], fleet(2, share_tickets=on))
    assert (operations.SHARE_TICKETS in [each.what for each in told]) is on


# The issuer's set


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the keys lie in a folder of the test's, on a host where nginx likes everything."""
    monkeypatch.setattr(receiver, "TICKETS", tmp_path / "tickets")
    monkeypatch.setattr(receiver, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(receiver.SERVER, "reload", lambda: None)
    return tmp_path / "tickets"


@pytest.mark.usefixtures("folder")
def test_keys_of_this_hosts_own_have_no_note_until_they_are_the_fleets() -> None:
    keys, note = keyring.read()
    assert note is None
    keyring.write(NEW)
    assert keyring.read() == (keys, NEW)


def test_keys_and_note_are_replaced_together_and_leave_nothing_behind(folder: Path) -> None:
    keyring.read()
    keyring.write(NEW)
    keys = Keys(key("a"), key("b"), key("c"))
    keyring.use(keys, Note(NOW + DAY))
    assert keyring.read() == (keys, Note(NOW + DAY))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.usefixtures("folder")
def test_what_nginx_refuses_is_told_and_the_keys_before_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, _ = keyring.read()
    keyring.write(NEW)

    def refuse() -> None:
        raise receiver.Refused("nginx: no")

    monkeypatch.setattr(receiver.SERVER, "reload", refuse)
    with pytest.raises(TicketsError) as caught:
        keyring.use(Keys(key("a"), key("b"), key("c")), Note(NOW + DAY))
    assert caught.value.message == (
        "nginx on the issuer does not accept new session ticket keys: nginx: no"
    )
    assert caught.value.hint == (
        "check `systemctl status nginx` on the issuer; the previous keys stay in use"
    )
    assert keyring.read() == (before, NEW)


@pytest.mark.parametrize(
    "text",
    ["", "null", "{}", '{"schema": 2}', '{"schema": 1, "made": "x", "reached": [], "against": []}',
     '{"schema": 1, "made": "2026-11-21", "reached": [], "against": []}'],
)  # fmt: skip
def test_a_note_that_is_none_of_ours_is_none(folder: Path, text: str) -> None:
    keyring.read()
    (folder / "live" / keyring.NOTE).write_text(text)
    assert keyring.note() is None


# Carrying


class Fake:
    """A replica's receiver that is given keys, or says why not."""

    local = False

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        self.given: list[dict[str, bytes]] = []

    def give_tickets(self, outbox: Path) -> None:
        if self.why:
            raise HostError(self.why, host=self.name)
        self.given.append({path.name: path.read_bytes() for path in outbox.iterdir()})


class World:
    """A fleet whose replicas are fakes."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = disk(tmp_path)
        self.replicas = {name: Fake(name, "") for name in BOTH}
        self.refusing: set[str] = set()
        self.unreached: dict[str, str] = {}
        self.not_resuming: list[str] | None = []
        self.heard = Heard()
        self.told, self.done = self.heard.told, self.heard.done
        self.asked = 0
        # No way leads here, and nobody is asked for one.
        monkeypatch.setattr(canary, "look", lambda *_: [])
        monkeypatch.setattr(receivers, "connected", self.connected)
        monkeypatch.setattr(receivers, "standings", self.standings)
        monkeypatch.setattr(outgoing, "outbox", self.outbox)
        monkeypatch.setattr(resumption, "not_resuming", lambda *_: self.not_resuming)
        self.tmp_path = tmp_path

    @contextmanager
    def connected(self, wanted: Fleet, hosts: Iterable[Machine]) -> Iterator[list[Backend | Fake]]:
        self.asked += 1
        names = [each.name for each in hosts]
        yield [Backend(wanted.issuer, local=True), *(self.replicas[name] for name in names)]

    def standings(self, _lineage: str, among: list[Fake]) -> list[Standing]:
        return [
            Standing(
                each.name,
                reached=each.name not in {*self.unreached, *self.refusing},
                why=self.unreached.get(each.name, ""),
                refuses_key=each.name in self.refusing,
            )
            for each in among
        ]

    @contextmanager
    def outbox(self, files: dict[str, bytes], name: str) -> Iterator[Path]:
        folder = self.tmp_path / f"outbox of {name}"
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        yield folder
        for file in files:
            (folder / file).unlink()
        folder.rmdir()

    def share(self, *behind: str, after: timedelta = timedelta(0)) -> None:
        names = [each.name for each in self.store.fleet().backends]
        proofs = [proof(name, Verdict.BEHIND if name in behind else None) for name in names]
        session = self.heard.session(self.store, NOW + after)
        share.share(session, look_at_all(self.store), {NAME: proofs})

    def keys(self, name: str) -> Keys:
        """Return what a replica was given last."""
        return Keys.of(self.replicas[name].given[-1])


def proof(name: str, verdict: Verdict | None = None) -> Proof:
    return Proof(name, verdict or Verdict.IN_SYNC, "0001", "", "", "")


@pytest.fixture
def world(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a fleet that was never given any keys."""
    assert not folder.exists()
    return World(tmp_path, monkeypatch)


def test_the_first_run_gives_all_the_issuers_keys_and_the_second_asks_nobody(world: World) -> None:
    world.share()
    assert world.done == ["shared the session ticket keys with backend-02, backend-03"]
    assert world.keys("backend-02") == world.keys("backend-03") == keyring.read()[0]
    assert keyring.note() == NEW
    world.share(after=HOUR)
    assert (world.asked, len(world.done)) == (1, 1)


def test_after_a_day_the_issuer_has_the_next_set_and_so_has_everybody(world: World) -> None:
    world.share()
    before = keyring.read()[0]
    world.share(after=DAY)
    after, note = keyring.read()
    assert (after.current, after.previous) == (before.next, before.current)
    assert world.keys("backend-02") == world.keys("backend-03") == after
    assert note == Note(NOW + DAY, BOTH)
    assert world.done[1:] == [
        "rotated the session ticket keys",
        "shared the session ticket keys with backend-02, backend-03",
    ]


def test_who_takes_no_ticket_is_given_the_same_keys_again(world: World) -> None:
    world.share()
    world.not_resuming = ["203.0.113.13"]
    world.share(after=HOUR)
    assert world.done[1:] == ["shared the session ticket keys with backend-03"]
    assert len(world.replicas["backend-02"].given) == 1


def test_a_rotation_waits_for_who_could_not_be_given_the_set_and_not_for_ever(
    world: World,
) -> None:
    world.replicas["backend-03"].why = "no room"
    with pytest.raises(TicketsError) as caught:
        world.share()
    assert caught.value.message == (
        "not all backends have the session ticket keys: backend-03: no room"
    )
    assert caught.value.hint == (
        "the site is still served there, but without resuming TLS sessions; hourly runs retry"
    )
    first = keyring.read()[0]
    with pytest.raises(TicketsError):
        world.share(after=DAY)
    assert keyring.read()[0] == first
    assert world.told[-1] == (
        "the session ticket keys are rotated once all backends have the current set"
    )
    with pytest.raises(TicketsError):
        world.share(after=2 * DAY)
    assert keyring.read()[0].current == first.next


def test_who_was_missed_is_given_the_set_before_it_is_rotated(world: World) -> None:
    world.share("backend-03")
    world.share(after=DAY)
    assert [len(world.replicas[name].given) for name in BOTH] == [2, 2]
    assert world.replicas["backend-03"].given[0] == world.replicas["backend-02"].given[0]


def test_who_does_not_serve_is_told_of_by_its_proof_alone(world: World) -> None:
    world.unreached = {"backend-03": "no answer"}
    world.share("backend-03")
    assert world.told == []
    assert keyring.note() == Note(NOW, ("backend-02",))


def test_who_serves_and_cannot_be_reached_over_ssh_is_told_and_others_are_not_asked_for(
    world: World,
) -> None:
    world.unreached = {"backend-03": "nothing listens for SSH"}
    with pytest.raises(TicketsError, match=r"keys: backend-03: nothing listens for SSH$"):
        world.share()
    assert world.told == ["backend-03: session ticket keys: nothing listens for SSH"]
    world.unreached, world.not_resuming = {"backend-02": "nothing listens for SSH"}, []
    # It has the keys, and is not needed.
    world.share()
    assert keyring.note() == NEW


def test_a_fenced_issuer_pushes_no_keys_and_changes_none(world: World) -> None:
    world.share()
    before = keyring.read()
    world.refusing = {"backend-02"}
    with pytest.raises(FencedError):
        world.share(after=DAY)
    assert keyring.read() == before
    assert len(world.replicas["backend-03"].given) == 1


def test_after_a_compromise_no_key_of_before_is_left_and_all_are_given_the_new_ones(
    world: World,
) -> None:
    world.share()
    before = set(keyring.read()[0].files().values())
    world.store.mark_compromised(NAME, Marks((Mark("backend-04", NOW, ()),)))
    world.share("backend-03")
    after = keyring.read()[0]
    assert not before & set(after.files().values())
    assert world.keys("backend-03") == after
    assert world.done[1] == "replaced all session ticket keys"
    world.share("backend-03")
    assert len(world.done) == 3


def test_who_is_in_the_fleet_again_with_compromised_keys_is_given_none(world: World) -> None:
    world.store.mark_compromised(NAME, Marks((Mark("backend-03", NOW, ()),)))
    world.share()
    assert (len(world.replicas["backend-02"].given), world.replicas["backend-03"].given) == (1, [])


def test_with_sharing_off_nothing_is_looked_at(world: World, folder: Path) -> None:
    render(world.store, fleet(share_tickets=False))
    world.share()
    assert not folder.exists()
    assert share.outlook(look_at_all(world.store), NOW) == []
    share.tickets(world.heard.session(world.store))
    assert world.told == ["nothing to share: share_tickets is false in the fleet file"]


def test_an_issuer_that_gives_no_tickets_is_told_of_and_nobody_is_pushed_to(world: World) -> None:
    world.share()
    world.not_resuming = None
    world.share()
    assert world.told == [
        "warning: nginx on the issuer issues no session tickets: sharing cannot be verified"
    ]
    assert len(world.done) == 1


def test_sharing_is_a_step_of_every_renewal_with_or_without_anything_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Step] = []

    def take(step: Step, work: Callable[[], object]) -> None:
        taken.append(step)
        work()

    monkeypatch.setattr(steps, "take", take)
    world.share()
    world.share()
    assert taken == [Step.SHARE] * 2


def test_the_fence_is_asked_with_all_replicas(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.share()
    asked: list[list[str]] = []

    def check_not_fenced(_run: Run, standings: list[Standing]) -> dict[str, str]:
        asked.append([each.name for each in standings])
        return {}

    monkeypatch.setattr(admission, "check_not_fenced", check_not_fenced)
    world.not_resuming = ["203.0.113.13"]
    world.share()
    assert asked == [list(BOTH)]


def test_of_several_lineages_each_backend_is_looked_at_by_one_that_it_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lineage("other.example.com", serving=("backend-03",))
    render(world.store, fleet(lineages=(lineage(serving=("backend-02",)), other)))
    looks: list[tuple[object, ...]] = []

    def not_resuming(*words: object) -> list[str]:
        looks.append(words)
        return []

    monkeypatch.setattr(resumption, "not_resuming", not_resuming)
    proofs = {
        NAME: [proof("backend-01"), proof("backend-02")],
        "other.example.com": [proof("backend-01"), proof("backend-03")],
    }
    share.share(world.heard.session(world.store), look_at_all(world.store), proofs)
    issuer = "203.0.113.11"
    assert looks == [
        (issuer, ["203.0.113.12"], 443, NAME),
        (issuer, ["203.0.113.13"], 443, "other.example.com"),
    ]
    assert world.done == ["shared the session ticket keys with backend-02, backend-03"]


# Looking, with real TLS


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate."""
    path = tmp_path_factory.mktemp("pair") / "pair.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=test", "-days", "2", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@contextmanager
def served(context: ssl.SSLContext, *addresses: str) -> Iterator[int]:
    """Have a TLS server on these loopback addresses, and return its port; one set of keys."""
    port = 0
    sockets = []
    for address in addresses:
        listening = socket.create_server((address, port))
        port = listening.getsockname()[1]
        sockets.append(listening)

    def work(listening: socket.socket) -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1)
            except OSError:
                pass

    threads = [threading.Thread(target=work, args=(each,), daemon=True) for each in sockets]
    for thread in threads:
        thread.start()
    try:
        yield port
    finally:
        for each in sockets:
            each.shutdown(socket.SHUT_RDWR)
            each.close()


def server(pair: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_has_the_same_keys_takes_a_ticket_and_who_has_others_does_not(
    pair: Path, version: ssl.TLSVersion
) -> None:
    with served(server(pair, version), "127.0.0.1", "127.0.0.2") as port:
        other = socket.create_server(("127.0.0.3", port))
        other.close()
        found = resumption.not_resuming("127.0.0.1", ["127.0.0.2", "127.0.0.3"], port, NAME)
        # Nobody listens on the last one: it says nothing.
        assert found == []
        assert resumption.not_resuming("127.0.0.1", [], port, NAME) == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_backend_with_other_keys_does_not_resume(
    pair: Path, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection
    with (
        served(server(pair, version), "127.0.0.1") as one,
        served(server(pair, version), "127.0.0.2") as two,
    ):
        ports = {"127.0.0.1": one, "127.0.0.2": two}
        monkeypatch.setattr(
            socket, "create_connection", lambda at, **more: connect((at[0], ports[at[0]]), **more)
        )
        assert resumption.not_resuming("127.0.0.1", ["127.0.0.2"], 0, NAME) == ["127.0.0.2"]


def test_a_server_without_tickets_or_without_an_answer_shows_nothing(pair: Path) -> None:
    context = server(pair, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_TICKET
    with served(context, "127.0.0.1") as port:
        assert resumption.not_resuming("127.0.0.1", ["127.0.0.1"], port, NAME) is None
    context = server(pair, ssl.TLSVersion.TLSv1_3)
    context.num_tickets = 0
    with served(context, "127.0.0.1") as port:
        found = resumption.not_resuming("127.0.0.1", ["127.0.0.1"], port, NAME, seconds=0.3)
    assert found is None
    assert resumption.not_resuming("127.0.0.1", ["127.0.0.1"], port, NAME) is None
