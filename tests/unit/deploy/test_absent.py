"""What is taken away again: all that a deploy has put there, and nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model import paths
from certsync.model.fleet import Authority, Fleet
from certsync.model.options import Renewal, Scheduler, Site, SiteKind
from certsync.operator.hosts.survey import Entry, Survey, Unit
from certsync.operator.rendering import templates
from certsync.programs import receiver
from deploy import absent, backend, issuer, renewal, replica
from deploy.step import Change, Step
from tests.unit.fake_fleet import NAME, fleet, lineage

PUSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "b" * 43
RUNS = Unit("active", "enabled", is_outdated=False)
STORE = paths.IssuerPaths()


def there(*names: str) -> Survey:
    return Survey(entries={name: Entry("f") for name in names})


def needed(steps: Iterable[Step]) -> list[str]:
    return [each.name for each in steps if each.script]


def put(steps: Iterable[Step]) -> set[str]:
    """Return the files, folders and links that steps make."""
    places = {"place": 2, "sudo_rule": 2, "install": -1, "link": 2}
    words = [each.script.split() for each in steps if each.script and "&&" not in each.script]
    return {each[places[each[0]]] for each in words if each[0] in places}


def left(made: set[str], taking: Iterable[Step]) -> set[str]:
    """Return what is still there of what was made, once these steps are taken."""
    gone = [each.script.split()[-1] for each in taking if each.script.startswith("rm -rf -- ")]
    return {path for path in made if not any(Path(path).is_relative_to(each) for each in gone)}


def test_a_replica_that_leaves_keeps_nothing_by_which_a_certificate_came_in() -> None:
    key = Survey(entries={replica.PUSH_KEY: Entry("f", text=PUSH_KEY)})
    steps = [*replica.prepare(fleet(), Survey()), *replica.let_in(fleet(), key, Survey())]
    made = put(steps)
    assert {replica.KEYS, replica.SUDO_RULE, replica.TMPFILES} <= made
    assert left(made, absent.access(there(*made))) == set()


def test_who_may_push_is_locked_out_before_its_user_goes() -> None:
    seen = there(replica.KEYS, replica.SUDO_RULE, replica.HOME)
    seen = replace(seen, users={replica.USER: (replica.HOME, "/bin/sh")})
    assert needed(absent.access(seen)) == [
        "No accepted push key", "No sudo rule", "No receiving user", "No inbox"
    ]  # fmt: skip


def test_an_issuer_that_is_one_no_more_keeps_nothing_that_made_it_one(tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_text("roots\n")
    made = fleet(authority=Authority("https://ca", directory_bundle=str(roots), roots=str(roots)))
    for scheduler in Scheduler:
        made = replace(made, renewal=Renewal(scheduler=scheduler))
        steps = [
            *issuer.configure(made, "sum", {}, Survey(), lists=["backend-09\n"]),
            *renewal.scheduled(made, Survey()),
        ]
        # A release of certsync is more than one command installs.
        has = {*put(steps), paths.OPT}
        assert {str(STORE.marker), str(STORE.left), str(STORE.roots), renewal.PROGRAM} <= has
        units = {path for path in has if path.startswith(f"{paths.UNITS}/")}
        taking = [*absent.runs(there(*has)), *absent.issuing(there(*has))]
        assert left(has - units, taking) == set()
        script = " ".join(each.script for each in taking)
        assert all(unit in script for unit in units)


def test_the_issuers_own_goes_but_for_the_certificates_that_nginx_serves() -> None:
    accounts = STORE.account("https://ca.example/dir"), STORE.pending(NAME)
    values = [getattr(STORE, name) for name in dir(STORE) if not name.startswith("_")]
    own = {str(each) for each in (*values, *accounts) if isinstance(each, Path)} - {str(STORE.root)}
    assert len(own) > 10
    folders = {str(each.parent) for each in accounts}
    assert left(own, absent.issuing(there(*own, *folders))) == set()
    kept = {str(STORE.archive(NAME)), str(STORE.live(NAME))}
    assert left(kept, absent.issuing(there(*own, *kept))) == kept


def test_the_marker_of_an_issuer_goes_last_so_that_a_run_that_was_interrupted_is_known() -> None:
    has = [str(STORE.marker), paths.OPT, str(STORE.machines), issuer.PUSH]
    assert needed(absent.issuing(there(*has)))[-1] == "No issuer marker"


def test_a_pushing_user_goes_before_the_key_that_it_could_push_with() -> None:
    seen = replace(there(issuer.PUSH), users={issuer.USER: (issuer.PUSH, "/usr/sbin/nologin")})
    assert needed(absent.issuing(seen)) == ["No pushing user", "No push key"]


def test_runs_end_whichever_of_the_two_started_them() -> None:
    assert needed(absent.runs(there(renewal.CRON))) == ["No renewal from cron"]
    timer = f"{paths.UNITS}/{renewal.TIMER}"
    assert needed(absent.runs(there(timer))) == ["No renewal from a timer"]


def test_a_dry_run_shows_the_text_of_a_file_that_goes() -> None:
    seen = Survey(entries={renewal.CRON: Entry("f", text="7 * * * * root it\n")})
    first, _ = absent.runs(seen)
    assert first.changes == (Change(renewal.CRON, "7 * * * * root it\n", ""),)


def test_the_programs_of_a_backend_go_and_nginx_starts_without_the_check() -> None:
    made = put(
        each for each in backend.configure(fleet(), fleet().backends[1], Survey())
        if each.name in ("Program folder", "Receiver", "Verification at boot")
    )  # fmt: skip
    seen = replace(there(*made), units={paths.VERIFY_UNIT: RUNS})
    steps = [*absent.programs(seen)]
    assert left(made, steps) == set()
    # The unit is switched off before its file goes, and the program goes after what would start it.
    assert needed(steps) == [
        "No verification at boot", "No verification unit", "systemd reload", "No receiver",
        "No program folder",
    ]  # fmt: skip


TICKETS = ("/etc/nginx/conf.d/certsync-tickets.conf", f"{paths.UNITS}/{paths.TICKETS_UNIT}")


@pytest.mark.parametrize("path", [*TICKETS, str(receiver.TICKETS)])
def test_shared_ticket_keys_go_as_long_as_anything_of_them_is_there(path: str) -> None:
    assert needed(absent.tickets(there("/etc/nginx/conf.d/own.conf"))) == []
    [made] = absent.tickets(there(path))
    assert made.script == f"no_tickets {paths.TICKETS_UNIT} {receiver.TICKETS}"


def test_what_shared_ticket_keys_need_is_what_is_looked_for_when_they_go() -> None:
    made = set[str]()
    for shared, sign in ((True, made.update), (False, made.difference_update)):
        wanted = fleet(share_tickets=shared)
        machine = wanted.backends[1]
        sign(put(backend.configure(wanted, machine, Survey())))
        files = templates.nginx(wanted, machine, http2_directive=True)
        sign(f"/etc/nginx/{path}" for path in files)
    assert made == {*TICKETS}


@pytest.mark.parametrize(
    ("active", "waits"), [("active", True), ("reloading", True), ("failed", False), ("", False)]
)
def test_connections_are_waited_for_only_where_nginx_could_have_some(
    active: str, waits: bool
) -> None:
    seen = Survey(units={"nginx.service": replace(RUNS, active=active)})
    [made] = absent.connections(fleet(), 90, seen)
    assert made.script == ("last_connections 90 8443" if waits else "")


def test_a_site_of_ours_goes_with_its_key_and_a_persons_stays() -> None:
    own = there("/etc/nginx/sites-available/own.conf")
    assert needed(absent.site(fleet(), own)) == []
    ours = there("/etc/nginx/sites-available/certsync-default.conf", absent.LIVE)
    assert needed(absent.site(fleet(), ours)) == [
        "nginx no longer serves the site", "No key and certificate"
    ]  # fmt: skip


def test_a_key_that_an_interrupted_run_has_left_without_a_site_goes_too() -> None:
    assert needed(absent.site(fleet(), there(absent.ARCHIVE))) == ["No key and certificate"]


def with_own_site() -> Fleet:
    site = Site(kind=SiteKind.UNMANAGED)
    return fleet(lineages=(lineage(), lineage("b.example", site=site)))


def test_where_one_site_is_a_persons_each_lineage_gets_the_placeholder_and_all_stay() -> None:
    archive = f"{absent.ARCHIVE}/{NAME}/0003", f"{absent.ARCHIVE}/b.example/0001"
    steps = [*absent.site(with_own_site(), there(*archive, absent.LIVE))]
    assert [each.script for each in steps] == [
        f"placeholder_live {NAME}", "placeholder_live b.example"
    ]  # fmt: skip
