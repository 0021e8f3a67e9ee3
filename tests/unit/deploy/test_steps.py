"""What a deploy would do on a host, from what the host is like: surveys in, steps out."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from certsync.model import paths
from certsync.model.errors import HostError
from certsync.model.fleet import Fleet
from certsync.model.options import Site, SiteKind
from certsync.operator.hosts import wheels
from certsync.operator.hosts.survey import Entry, Survey, Unit
from certsync.operator.rendering import templates
from deploy import (
    absent,
    answers,
    backend,
    balancer,
    issuer,
    passthrough,
    renewal,
    replica,
    step,
)
from deploy.step import Change, Step
from tests.unit.fake_fleet import NAME, fleet

FLEET = fleet()
ISSUER, REPLICA, BALANCER = FLEET.backends[0], FLEET.backends[1], FLEET.balancers[0]
RUNS = Unit("active", "enabled", is_outdated=False)


def needed(steps: step.Steps) -> list[str]:
    return [each.name for each in steps if each.script]


def test_on_an_empty_host_everything_is_to_be_done() -> None:
    assert needed(backend.packages(FLEET, ISSUER, Survey())) == ["Install nginx and its tools"]
    names = needed(backend.configure(FLEET, REPLICA, Survey()))
    assert names == [
        "Program folder", "Receiver", "Verification at boot",
        "Session ticket keys before nginx starts", "systemd reload",
        "Verify certificates before nginx starts", "Placeholder certificate, generation 0000",
        "Session ticket keys", "Folder of certsync's pages", "nginx",
    ]  # fmt: skip


def written(steps: step.Steps) -> dict[str, Entry]:
    """Return the files that steps would write, as a survey tells of them afterwards."""
    found = {}
    for each in steps:
        words = each.script.split()
        if words[:2] == ["place", "file"]:
            found[words[2]] = Entry(
                "f", words[3], words[4], words[5], each.text, size=len(each.text.encode())
            )
    return found


def test_a_file_that_is_as_it_should_be_is_not_written() -> None:
    made = FLEET
    first = [
        *backend.configure(made, REPLICA, Survey()), *replica.prepare(made, Survey()),
        *issuer.configure(made, "sum", {}, Survey()), *renewal.scheduled(made, Survey()),
    ]  # fmt: skip
    seen = Survey(entries=written(first))
    assert len(seen.entries) > 12
    again = [
        *backend.configure(made, REPLICA, seen), *replica.prepare(made, seen),
        *issuer.configure(made, "sum", {}, seen), *renewal.scheduled(made, seen),
    ]  # fmt: skip
    assert written(again) == {}


@pytest.mark.parametrize(
    "change",
    [{"mode": "600"}, {"owner": "admin"}, {"group": "admin"}, {"text": "other\n", "size": 6},
     {"kind": "l"}, {"text": None}],
)  # fmt: skip
def test_a_file_that_differs_in_anything_is_written_again(change: dict[str, str]) -> None:
    good = Entry("f", "644", "root", "root", "text\n", size=5)
    assert not step.file(Survey(entries={"/a": good}), "it", "/a", "text\n").script
    seen = Survey(entries={"/a": replace(good, **change)})  # type: ignore[arg-type]  # a test's shorthand
    made = step.file(seen, "it", "/a", "text\n")
    assert made.script == "place file /a 644 root root"
    assert made.files == {"file": "text\n"}


def nginx_of(made: Fleet, seen: Survey) -> Step:
    return next(each for each in backend.configure(made, REPLICA, seen) if each.name == "nginx")


def served(made: Fleet, *, enabled: bool = True) -> dict[str, Entry]:
    """Return what a backend's nginx has in a finished fleet."""
    texts = templates.nginx(made, REPLICA, http2_directive=False)
    found = {f"/etc/nginx/{path}": Entry("f", text=text) for path, text in texts.items()}
    for site, is_wanted in templates.sites(made, REPLICA).items():
        if is_wanted and enabled:
            found[f"/etc/nginx/sites-enabled/{site}"] = Entry("l")
    return found


def test_nginx_that_serves_what_it_should_is_left_alone() -> None:
    seen = Survey(entries=served(FLEET), units={"nginx.service": RUNS})
    assert nginx_of(FLEET, seen) == Step("nginx")


def test_nginx_that_does_not_run_is_started_and_its_files_are_left_alone() -> None:
    made = nginx_of(FLEET, Survey(entries=served(FLEET)))
    assert made.script == "running nginx"
    assert made.changes == (Change("nginx.service", "stopped\n", "running\n"),)


def test_a_dry_run_shows_each_of_nginxs_files_that_changes_and_new_ones() -> None:
    seen = Survey(entries=served(FLEET), units={"nginx.service": RUNS})
    snippet = f"/etc/nginx/snippets/ssl-{NAME}.conf"
    challenge = "/etc/nginx/snippets/certsync-challenge.conf"
    entries = {**seen.entries, snippet: Entry("f", text="# before\n")}
    del entries[challenge]
    made = nginx_of(FLEET, replace(seen, entries=entries))
    assert made.script == "configure_nginx changes"
    assert {each.path: each.before for each in made.changes} == {
        snippet: "# before\n", challenge: ""
    }  # fmt: skip
    assert isinstance(made.files, dict)
    assert {*made.files} == {"0", "1", "changes", "change.py"}


def test_a_reload_that_was_interrupted_is_made_up_for() -> None:
    entries = {**served(FLEET), backend.UNFINISHED: Entry("f")}
    made = nginx_of(FLEET, Survey(entries=entries, units={"nginx.service": RUNS}))
    assert (made.script, made.changes) == ("configure_nginx changes", ())
    unfinished = {balancer.UNFINISHED: Entry("f")}
    seen = Survey(entries=unfinished, units={"haproxy.service": RUNS})
    assert balancer.haproxy("it", lambda: "", seen).script == "configure_haproxy file wait"


def test_a_site_of_a_lineage_that_is_no_more_is_switched_off_and_a_persons_is_not() -> None:
    gone, own = "certsync-old.example.conf", "certsync-mine.conf"
    entries = served(FLEET)
    for name, text in ((gone, "# Written by certsync; changes\n"), (own, "server {}\n")):
        entries[f"/etc/nginx/sites-enabled/{name}"] = Entry("l")
        entries[f"/etc/nginx/sites-available/{name}"] = Entry("f", text=text)
    made = nginx_of(FLEET, Survey(entries=entries, units={"nginx.service": RUNS}))
    assert isinstance(made.files, dict)
    assert json.loads(made.files["changes"]) == [["remove", f"/etc/nginx/sites-enabled/{gone}", ""]]


def test_a_template_that_cannot_be_filled_in_fails_its_step_and_no_other() -> None:
    def broken() -> dict[str, str]:
        raise HostError("no such template", "look")

    made = backend.nginx("nginx", broken, {}, [], Survey())
    assert "no such template" in made.script


def test_haproxy_cfg_is_written_with_what_changes_in_it() -> None:
    made = balancer.haproxy("it", lambda: "new\n", Survey(), until_up=False)
    assert made == Step(
        "it", "configure_haproxy file", {"file": "new\n"},
        (Change(balancer.CONFIGURATION, "", "new\n"),),
    )  # fmt: skip


def test_only_pools_that_have_a_member_let_it_drain() -> None:
    states = ("4 tls 1 b 203.0.113.11 2 0 1", "3 http 1 b 203.0.113.11 2 0 1", "5 other 1 c - 2 0")
    seen = Survey(server_states=states)
    [made] = balancer.drain("b", FLEET, BALANCER, seen)
    assert [word for word in made.script.split() if "/b" in word] == ["tls/b", "http/b"]
    assert needed(balancer.drain("d", FLEET, BALANCER, seen)) == []


@pytest.mark.parametrize(
    ("rules", "script"),
    [
        ((), "ufw allow 80/tcp &&\nufw allow 443/tcp"),
        (("allow 80/tcp", "allow 443/tcp"), ""),
        (("allow 443/tcp", "deny 25"), "ufw allow 80/tcp"),
    ],
)
def test_ufw_gets_the_rules_that_it_lacks(rules: tuple[str, ...], script: str) -> None:
    seen = Survey(rules=rules)
    active = replace(seen.facts, ufw="active")
    wanted = ["allow 80/tcp", "allow 443/tcp"]
    assert step.firewall(replace(seen, facts=active), wanted).script == script
    assert not step.firewall(seen, wanted).script


def test_ufw_is_switched_on_only_with_the_operators_way_in() -> None:
    inactive = replace(Survey().facts, ufw="inactive")
    made = step.firewall(Survey(inactive), [], enable=True, ssh_port=2222)
    assert made.script == "ufw allow 2222/tcp &&\nufw --force enable"


def test_certsync_that_is_there_and_does_not_start_is_installed_again() -> None:
    release = wheels.release()
    entries = {f"{paths.OPT}/current": Entry("l", target=release)}
    works = Survey(entries=entries, certsync_works=True)
    assert not issuer.installed(works, notify=False).script
    assert issuer.installed(replace(works, certsync_works=False), notify=False).script
    assert issuer.installed(works, notify=True).script


def test_an_issuer_that_says_nonsense_of_itself_is_brought_no_wheels() -> None:
    seen = Survey(libc="2.41; rm -rf /")
    files = issuer.installed(seen, notify=False).files
    assert callable(files)
    with pytest.raises(HostError):
        files()


def test_where_nothing_of_ours_is_there_nothing_is_taken_away() -> None:
    for steps in (
        absent.runs(Survey()), absent.issuing(Survey()), absent.access(Survey()),
        absent.tickets(Survey()), absent.programs(Survey()), absent.site(FLEET, Survey()),
    ):  # fmt: skip
        assert needed(steps) == []


def test_a_backend_that_leaves_keeps_the_placeholder_where_a_persons_site_names_it() -> None:
    made = fleet(site=Site(kind=SiteKind.UNMANAGED))
    archive = f"{absent.ARCHIVE}/{NAME}"
    seen = Survey(entries={f"{archive}/0000": Entry("d"), f"{archive}/0002": Entry("d")})
    [found] = absent.site(made, seen)
    assert found.script == f"placeholder_live {NAME}"
    assert needed(absent.site(made, Survey(entries={f"{archive}/0000": Entry("d")}))) == []


@pytest.mark.parametrize("told", [{"proofs": 5}, {"proofs": [{}]}, {"proofs": [], "others": []}])
def test_nonsense_in_place_of_proofs_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, object]
) -> None:
    monkeypatch.setattr(answers, "_outlook", lambda *_: {"prove": told})
    issuing: Any = SimpleNamespace(connected=True)
    assert passthrough._proofs(FLEET, issuing) == {}


def written_haproxy(made: Fleet, seen: Survey) -> str:
    steps = balancer.configure(made, BALANCER, seen)
    return next(each.text for each in steps if each.name == "haproxy.cfg")


def has_haproxy(made: Fleet) -> Survey:
    """Return a balancer on which a fleet is finished, with nobody proven yet."""
    text = balancer.configuration(made, BALANCER, Survey())
    entries = {balancer.CONFIGURATION: Entry("f", text=text)}
    return Survey(entries=entries, units={"haproxy.service": RUNS})


JOINED = replace(
    FLEET, backends=(*FLEET.backends, replace(REPLICA, name="backend-99", address="203.0.113.99"))
)


def test_a_backend_that_joins_comes_to_haproxy_with_the_gate_alone() -> None:
    seen = has_haproxy(FLEET)
    assert written_haproxy(JOINED, seen) == ""
    assert "server backend-99 " in balancer.configuration(JOINED, BALANCER, seen)


def test_what_changes_besides_a_backend_that_joins_does_not_wait_for_the_gate() -> None:
    other = replace(JOINED, balancing=replace(FLEET.balancing, slow_start_seconds=77))
    assert "77" in written_haproxy(other, has_haproxy(FLEET))
    gone = replace(JOINED, backends=(ISSUER, JOINED.backends[-1]))
    assert REPLICA.name not in written_haproxy(gone, has_haproxy(FLEET))


def test_on_a_balancer_that_has_nothing_yet_every_backend_comes_at_once() -> None:
    text = written_haproxy(JOINED, Survey())
    assert all(f"server {each.name} " in text for each in JOINED.backends)
