"""The kinds of steps: each asks for nothing where all is so, and for one thing where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from certsync.model.errors import HostError
from certsync.operator.hosts.facts import HostFacts
from certsync.operator.hosts.survey import Entry, Survey, Unit
from deploy import step
from deploy.step import Change, Step
from tests.unit.steps import taken


@pytest.mark.parametrize(
    ("entry", "good"),
    [
        (Entry("l", target="/opt/it"), True),
        (Entry("l", target="/opt/other"), False),
        (Entry("f"), False),
        (None, False),
    ],
)
def test_a_link_is_made_unless_it_leads_there(entry: Entry | None, good: bool) -> None:
    seen = Survey(entries={"/bin/it": entry} if entry else {})
    script = "" if good else "link /opt/it /bin/it"
    assert step.link(seen, "it", "/bin/it", "/opt/it").script == script


@pytest.mark.parametrize(
    ("entry", "good"),
    [
        (Entry("d", "700", "certsync", "certsync"), True),
        (Entry("d", "755", "certsync", "certsync"), False),
        (Entry("d", "700", "root", "certsync"), False),
        (Entry("d", "700", "certsync", "root"), False),
        # A link to a folder that somebody has put there is none of ours.
        (Entry("l", "700", "certsync", "certsync"), False),
    ],
)
def test_a_folder_is_made_unless_it_is_whose_it_should_be(entry: Entry, good: bool) -> None:
    seen = Survey(entries={"/x": entry})
    made = step.directory(seen, "it", "/x", mode="700", owner="certsync", group="certsync")
    assert made.script == ("" if good else "install -d -m 700 -o certsync -g certsync /x")


def test_a_user_is_made_or_corrected_unless_home_and_shell_are_right() -> None:
    for seen in (Survey(), Survey(users={"it": ("/x", "/bin/sh")})):
        made = step.user(seen, "user", "it", home="/x", shell="/usr/sbin/nologin")
        assert made.script == "user it /x /usr/sbin/nologin"
    seen = Survey(users={"it": ("/x", "/bin/sh")})
    assert not step.user(seen, "user", "it", home="/x", shell="/bin/sh").script
    assert step.no_user(seen, "no user", "it").script == "userdel it"
    assert not step.no_user(seen, "no user", "other").script


def test_systemd_reads_what_changes_and_what_an_interrupted_run_has_left_unread() -> None:
    units = {"nginx": Step("as it should be"), "haproxy": Step("as it should be")}
    read = Unit("active", "enabled", is_outdated=False)
    seen = Survey(units={"nginx.service": read})
    assert not step.units_read(seen, units).script
    assert step.units_read(seen, {**units, "haproxy": Step("it", "place file")}).script
    unread = Unit("active", "enabled", is_outdated=True)
    assert step.units_read(Survey(units={"nginx.service": unread}), units).script
    # What somebody else has left unread is theirs.
    assert not step.units_read(Survey(units={"cron.service": unread}), units).script


def test_packages_that_are_missing_are_installed_and_no_others() -> None:
    seen = Survey(packages=frozenset({"nginx", "sudo"}))
    assert step.packages(seen, "it", ["nginx", "rsync", "sudo"]).script == "packages rsync"
    assert not step.packages(seen, "it", ["nginx", "sudo"]).script


def test_something_that_goes_may_have_any_name_and_a_link_to_nowhere_is_something() -> None:
    seen = Survey(entries={"/x/it's": Entry("l", target="/nowhere")})
    assert step.absent(seen, "it", "/x/it's").script == "rm -rf -- '/x/it'\"'\"'s'"
    assert not step.absent(seen, "it", "/x/it").script


def test_an_error_is_told_on_its_host_with_its_hint_whatever_is_in_it(tmp_path: Path) -> None:
    made = step.refused("it", HostError("it's $(touch no) 100%", "try `that`"))
    done = taken(tmp_path, made.script)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: it's $(touch no) 100%\nhint: try `that`\n"


@pytest.mark.parametrize(
    ("unit", "script"),
    [
        (Unit("active", "enabled", is_outdated=False), ""),
        (Unit("reloading", "enabled", is_outdated=False), ""),
        (Unit("active", "disabled", is_outdated=False), "running nginx"),
        (Unit("failed", "enabled", is_outdated=False), "running nginx"),
    ],
)
def test_a_service_is_started_unless_it_runs_and_will_after_a_reboot(
    unit: Unit, script: str
) -> None:
    made = step.runs(Survey(units={"nginx.service": unit}), "nginx", "nginx")
    assert made.script == script
    change = Change("nginx.service", "stopped\n", "running\n")
    assert made.changes == ((change,) if script else ())


def test_a_firewall_opens_what_is_wanted_before_it_closes_what_was_wider() -> None:
    seen = Survey(HostFacts(ufw="active"), rules=("allow 80/tcp",))
    made = step.firewall(seen, ["allow from 10.0.0.1"], instead_of=["allow 80/tcp", "allow 81/tcp"])
    assert made.script == "ufw allow from 10.0.0.1 &&\nufw delete allow 80/tcp"


def test_a_firewall_that_is_on_is_not_switched_on_again() -> None:
    seen = Survey(HostFacts(ufw="active"))
    assert not step.firewall(seen, [], enable=True, ssh_port=22).script
    inactive = Survey(HostFacts(ufw="inactive"))
    assert not step.firewall(inactive, [], enable=False, ssh_port=22).script


def test_somebody_elses_files_are_kept_and_taken_out_only_where_ours_take_their_place() -> None:
    paths = ["/etc/a b", "/etc/c"]
    assert step.kept_aside("it", paths, remove=False).script == "put_aside '/etc/a b' /etc/c"
    assert step.kept_aside("it", paths, remove=True).script == (
        "put_aside '/etc/a b' /etc/c && rm -f -- '/etc/a b' /etc/c"
    )
    assert not step.kept_aside("it", [], remove=True).script
