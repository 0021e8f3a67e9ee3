"""A backend leaves: who may be called compromised, and what is told when only its keys are left."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certsync.model.errors import CertsyncError, HostError, RefusedError
from certsync.model.fleet import Fleet, Machine
from certsync.model.proof import Proof, Verdict
from certsync.operator.change import Change
from certsync.operator.commands import remove_backend
from certsync.operator.deployment import removal
from certsync.operator.deployment.leaving import Leaving, Options
from certsync.operator.deployment.plan import Plan
from certsync.operator.deployment.progress import Outcome
from certsync.operator.fleet_file import FleetFile
from certsync.operator.hosts import fleet_lock, issuer_side
from certsync.operator.rendering import templates
from certsync.system import ssh
from certsync.system.process import Completed
from deploy import issuer
from tests.unit.fake_fleet import NAME, NOW, fleet, lineage, machine

HEADING = f"# {templates.HEADER}\n"
FILE = FleetFile(Path("f.toml"), b"")
GONE = Leaving(FILE, "backend-09", Options(compromised=True), fleet(), None)


def test_who_has_left_is_remembered_until_it_is_in_the_fleet_again() -> None:
    assert issuer.left(fleet(), ["", "\n"]) == ""
    once = issuer.left(fleet(), ["", "backend-09\n"])
    assert once == f"{HEADING}backend-09\n"
    assert issuer.left(fleet(), [once, "backend-08\n"]) == f"{HEADING}backend-08\nbackend-09\n"
    assert issuer.left(fleet(9), [once, "\n"]) == HEADING


def test_only_who_has_left_is_called_compromised_when_no_backend_has_the_name() -> None:
    removal._refuse_unknown_name(GONE, ["backend-09"])
    with pytest.raises(CertsyncError) as caught:
        removal._refuse_unknown_name(GONE, ["backend-08"])
    assert caught.value.message == (
        "f.toml has no backend backend-09, and none of that name was removed; nothing was changed"
    )
    assert caught.value.hint == (
        "its backends are backend-01, backend-02, backend-03; removed earlier: backend-08; if it "
        "was removed under an earlier, dead issuer, on backend-01: sudo certsync compromised --by "
        "backend-09"
    )


def unnamed(name: str, **options: bool) -> Leaving:
    """Return what is asked about a name that a fleet file of three backends lacks."""
    lacking = fleet(issuer_name="backend-01")
    return Leaving(FILE, name, Options(**options), lacking, None, named=False)


def test_a_backend_that_the_issuer_alone_knows_can_be_taken_out() -> None:
    known = removal.as_the_issuer_knows_it(unnamed("backend-04"), fleet(4))
    assert known.machine == machine("backend-04", 14)
    assert known.lineages == (NAME,)
    assert known.change == Change(departing=(machine("backend-04", 14),))
    assert known.request.only == ("backend-01", "balancer", "backend-04")
    assert known.request.options.leaving_address == "203.0.113.14"
    gone = removal.as_the_issuer_knows_it(unnamed("backend-04", gone=True), fleet(4))
    assert gone.request.only == ("backend-01", "balancer")


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "-oProxyCommand=touch /tmp/x"},
        {"private_address": "10.0.0.1; id"},
        {"ssh_user": "-oProxyCommand=id"},
        {"ssh_port": 0},
        {"ssh_port": "22"},
        {"name": "../backend"},
        {"address": None},
    ],
)
def test_an_issuer_leads_the_operators_ssh_to_no_machine_that_cannot_be(
    changes: dict[str, Any],
) -> None:
    known = fleet(4)
    odd = replace(known.backends[-1], **changes)
    told = replace(known, backends=(*known.backends[:-1], odd))
    with pytest.raises(HostError, match="has an invalid machine"):
        removal.as_the_issuer_knows_it(unnamed(odd.name), told)


@pytest.mark.parametrize(
    ("status", "gone", "refused"),
    [(0, False, ""), (1, False, "has no certificate of this fleet"), (0, True, "answers over SSH"),
     (1, True, "")],
)  # fmt: skip
def test_only_a_backend_of_this_fleet_is_taken_out_by_an_issuers_word(
    monkeypatch: pytest.MonkeyPatch, status: int, gone: bool, refused: str
) -> None:
    asked: list[str] = []

    def on(_machine: Machine, _known_hosts: str, command: str) -> Completed:
        asked.append(command)
        return Completed(status, "", "")

    monkeypatch.setattr(ssh, "on", on)
    taken = machine("backend-04", 14)
    context = pytest.raises(RefusedError, match=refused) if refused else nullcontext()
    with context:
        removal._refuse_wrong_gone(unnamed(taken.name, gone=gone), taken)
    assert asked == [f"test -d /etc/certsync/archive/{NAME}"]


DEAD_DISK = "bash: /usr/bin/sh: Input/output error"


def test_one_that_answers_over_ssh_and_runs_nothing_may_be_called_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = machine("backend-03", 13)

    def on(*_: object) -> Completed:
        raise ssh.not_begun(taken, Completed(126, "", DEAD_DISK))

    monkeypatch.setattr(ssh, "on", on)
    gone = replace(leaves(NAME, of=fleet()), options=Options(gone=True))
    removal._refuse_wrong_gone(gone, taken)
    with pytest.raises(HostError) as caught:
        removal._refuse_wrong_gone(leaves(NAME, of=fleet()), taken)
    assert caught.value.message == f"backend-03: its login shell does not run commands: {DEAD_DISK}"
    assert caught.value.hint.endswith(
        "to interactive shells. If it will not come back, add --gone: its key then stays on it"
    )


def test_one_that_nobody_knows_cannot_be_unless_its_keys_are_to_be_replaced() -> None:
    with pytest.raises(CertsyncError) as caught:
        removal.as_the_issuer_knows_it(unnamed("backend-09", gone=True), fleet(4))
    assert caught.value.message == "f.toml has no backend backend-09"
    assert caught.value.hint == "its backends are backend-01, backend-02, backend-03"
    said = unnamed("backend-09", gone=True, compromised=True)
    assert removal.as_the_issuer_knows_it(said, fleet(4)) == said


def test_who_has_left_already_is_removed_again_with_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(issuer_side, "rendered", lambda *_: fleet())
    monkeypatch.setattr(issuer_side, "left", lambda *_: ["backend-09"])
    monkeypatch.setattr(remove_backend, "leaving", lambda *_: unnamed("backend-09"))
    monkeypatch.setattr(fleet_lock, "held", lambda *_: nullcontext())
    done: list[Any] = []
    remove_backend.remove_backend(FILE.path, "backend-09", Options(), lambda: NOW, done)
    assert (capsys.readouterr().err, done) == (
        "nothing to do: backend-09 was removed before\n", []
    )  # fmt: skip
    assert remove_backend.plan(FILE.path, "backend-09", Options()) == Plan()
    with pytest.raises(CertsyncError, match="has no backend backend-08"):
        removal._looked(unnamed("backend-08"))
    # Who is in the deployed fleet again, or whose keys are to be replaced, has more to come.
    assert not removal._is_over(unnamed("backend-02"), fleet())
    assert not removal._is_over(unnamed("backend-09", compromised=True), fleet())


def test_several_that_the_issuer_alone_knows_are_not_forgotten_with_the_first() -> None:
    with pytest.raises(RefusedError) as caught:
        removal.as_the_issuer_knows_it(unnamed("backend-04", gone=True), fleet(5))
    assert caught.value.message == (
        "the issuer also knows backend-05 (203.0.113.15), which f.toml does not name; nothing was "
        "changed"
    )
    assert caught.value.hint == (
        "add backend-05 to it again, then remove one backend after the other"
    )


@pytest.mark.parametrize(
    ("outcome", "alone"),
    [
        (Outcome(failed={"backend-01": "Replace the keys"}), True),
        (Outcome(failed={"backend-01": "Rendered fleet"}), False),
        (Outcome(failed={"backend-01": "Replace the keys", "balancer": "haproxy.cfg"}), False),
        (Outcome(("backend-03",), {"backend-01": "Replace the keys"}), False),
        (Outcome(), False),
    ],
)
def test_it_has_left_if_nothing_but_its_keys_is_left_to_be_done(
    outcome: Outcome, alone: bool
) -> None:
    assert remove_backend._are_only_keys_left(GONE.fleet, outcome) is alone


def test_that_only_its_keys_are_left_is_told_with_what_goes_on() -> None:
    message, hint = remove_backend._of_keys_left(GONE, "backend-01: the CA is busy")
    assert message == (
        "backend-09 is removed, but its keys are not all replaced yet: backend-01: the CA is busy"
    )
    assert hint == (
        "the hourly run retries this by itself; to retry now: certsync remove-backend f.toml "
        "backend-09 --gone --compromised"
    )


SHOP = "shop.example.net"
YES = dict.fromkeys(("backend-01", "backend-02", "backend-03"), "yes")
BOTH = {"tls": YES, f"tls-of-{SHOP}": YES}


def of_two(count: int) -> Fleet:
    return fleet(count, lineages=(lineage(), lineage(SHOP)))


def proven(*verdicts: Verdict) -> dict[str, Proof]:
    """Return the proofs of the first backends."""
    names = [f"backend-0{number}" for number in range(1, len(verdicts) + 1)]
    return {
        name: Proof(name, verdict, "", "", "", "")
        for name, verdict in zip(names, verdicts, strict=True)
    }


GOOD = proven(Verdict.IN_SYNC, Verdict.BEHIND, Verdict.IN_SYNC)
ALONE = proven(Verdict.WRONG, Verdict.UNREACHABLE, Verdict.IN_SYNC)


def leaves(*lineages: str, of: Fleet) -> Leaving:
    return Leaving(FILE, "backend-03", Options(), of, machine("backend-03", 13), lineages)


def test_somebody_else_has_to_serve_each_lineage_that_it_serves() -> None:
    refuse = removal.refuse_the_last
    refuse(leaves(NAME, SHOP, of=of_two(2)), {NAME: GOOD, SHOP: GOOD}, [BOTH])
    with pytest.raises(RefusedError) as caught:
        refuse(leaves(NAME, SHOP, of=of_two(2)), {NAME: GOOD, SHOP: ALONE}, [BOTH])
    assert caught.value.message == (
        f"backend-03 is the last backend that serves {SHOP}; nothing was changed"
    )
    assert caught.value.hint == (
        "fix another backend first: certsync status f.toml shows what is wrong"
    )  # fmt: skip
    # What it does not serve, it takes from nobody.
    refuse(leaves(NAME, of=of_two(2)), {NAME: GOOD, SHOP: ALONE}, [BOTH])


def test_who_serves_and_is_in_another_lineages_pool_alone_does_not_count() -> None:
    down = dict.fromkeys(("backend-01", "backend-02"), "down: L4TOUT")
    proofs = {NAME: GOOD, SHOP: GOOD}
    wanted = leaves(NAME, SHOP, of=of_two(2))
    with pytest.raises(RefusedError, match=f"serves {SHOP};"):
        removal.refuse_the_last(wanted, proofs, [BOTH, {**BOTH, f"tls-of-{SHOP}": down}])
    off = replace(wanted, fleet=replace(of_two(2), passthrough=False))
    removal.refuse_the_last(off, proofs, [{}])


@pytest.mark.parametrize("verdict", [Verdict.WRONG, Verdict.UNREACHABLE])
def test_a_lineage_that_nobody_serves_keeps_nobody_from_leaving(verdict: Verdict) -> None:
    wanted = leaves(NAME, SHOP, of=of_two(2))
    nobody = proven(verdict, verdict, verdict)
    down = dict.fromkeys(YES, "down: L6RSP")
    removal.refuse_the_last(wanted, {NAME: GOOD, SHOP: nobody}, [{**BOTH, f"tls-of-{SHOP}": down}])
    # Somebody else's balancer cannot be asked.
    removal.refuse_the_last(wanted, {NAME: GOOD, SHOP: nobody}, [])


def test_one_that_a_balancer_reaches_and_the_issuer_does_not_may_be_the_last_all_the_same() -> None:
    unseen = proven(*3 * [Verdict.UNREACHABLE])
    with pytest.raises(RefusedError, match=f"serves {SHOP};"):
        removal.refuse_the_last(
            leaves(NAME, SHOP, of=of_two(2)), {NAME: GOOD, SHOP: unseen}, [BOTH]
        )


def test_of_the_only_lineage_the_last_one_is_told_without_its_name() -> None:
    with pytest.raises(RefusedError) as caught:
        removal.refuse_the_last(leaves(NAME, of=fleet(2)), {NAME: ALONE}, [{"tls": YES}])
    assert caught.value.message == "backend-03 is the last backend that serves; nothing was changed"


def test_who_leaves_is_known_with_what_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(f"""
names = ["{NAME}"]
public_addresses = ["203.0.113.10"]
[ca]
agree_to_terms = true
[lineages.shop]
names = ["{SHOP}"]
served_by = ["backend-01"]
[balancers.balancer]
address = "203.0.113.10"
[backends.backend-01]
address = "203.0.113.11"
[backends.backend-02]
address = "203.0.113.12"
""")
    wanted = removal.leaving(path, "backend-02", Options())
    assert wanted.lineages == (NAME,)
