"""A fleet's own templates are tried in a process with limits on time and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from certsync.model.fleet import Fleet
from certsync.operator.rendering import overrides
from certsync.system import process
from certsync.system.process import Completed
from tests.unit.fake_fleet import fleet, lineage
from tests.unit.operator.test_overrides import OURS, SITE, mistakes, put


@pytest.fixture
def own(tmp_path: Path) -> Fleet:
    """Return a fleet with an empty folder of its own templates."""
    (tmp_path / "templates").mkdir()
    return fleet(templates=str(tmp_path / "templates"))


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param(LOOP, f"{SITE}, line 2", id="a loop"),
        pytest.param("{{ 7 ** (7 ** 9) }}", "nginx", id="a step that is not interrupted"),
        pytest.param("{{ 'a' * 1000000000 }}", f"{SITE}, line 2", id="a text"),
        pytest.param("{{ '%300000000d' | format(1) }}", "nginx", id="a number"),
        pytest.param("{{ 'x' | center(300000000) }}", "nginx", id="a text in the middle"),
    ],
)
def test_a_template_that_takes_too_much_is_refused_and_takes_no_more(
    own: Fleet, monkeypatch: pytest.MonkeyPatch, text: str, place: str
) -> None:
    monkeypatch.setattr(overrides, "SECONDS", 1)
    put(own, "nginx/balancers.conf.j2", (OURS / "nginx/balancers.conf.j2").read_text() + "# mine\n")
    put(own, SITE, f"\n{text}\n")
    [found] = mistakes(own)
    assert found.place == f"templates/{place}"
    assert found.message == "takes too long or too much memory"


def test_every_template_has_its_mistakes_told_once(own: Fleet) -> None:
    put(own, "nginx/balancers.conf.j2", "# mine")
    put(own, "nginx/lb.html.j2", "{{ 1 / 0 }}")
    put(own, SITE, "\n{{ oops }}")
    put(own, "renewal/cron.j2", "{% if %}")
    assert [each.place for each in mistakes(own)] == [
        f"templates/{SITE}, line 2",
        "templates/nginx/lb.html.j2, line 1",
        "templates/renewal/cron.j2, line 1",
    ]


def test_a_child_that_does_not_end_is_ended(own: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "WALL_SECONDS", 0.5)
    put(own, SITE, LOOP)
    [found] = mistakes(own)
    assert (found.place, found.message) == ("templates", "takes too long or too much memory")


def test_only_templates_of_ones_own_cost_a_process(
    own: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "run", None)
    assert overrides.check(own, "fleet.toml") == []
    assert overrides.check(fleet(), "fleet.toml") == []


def test_no_module_of_the_folder_that_it_is_run_in_is_loaded(
    own: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    put(own, SITE, "# mine\n")
    assert overrides.check(own, "fleet.toml") == [SITE]


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (Completed(-9, "", ""), "takes too long or too much memory"),
        (Completed(1, "", "Traceback\nMemoryError\n"), "takes too long or too much memory"),
        (Completed(1, "", "ImportError: no luck\n"), "ImportError: no luck"),
    ],
)
def test_a_child_that_dies_is_told_with_the_template_that_it_was_at(
    own: Fleet, monkeypatch: pytest.MonkeyPatch, ended: Completed, told: str
) -> None:
    put(own, SITE, "# mine")
    put(own, "renewal/cron.j2", "# mine")
    monkeypatch.setattr(process, "run", lambda *_, **__: replace(ended, stdout="[]\n"))
    [found] = mistakes(own)
    assert (found.place, found.message) == ("templates/renewal/cron.j2", told)


def test_a_large_fleet_with_every_template_of_its_own_is_tried_within_the_limit(
    own: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in overrides.names():
        put(own, name, (OURS / name).read_text() + "# a line more\n")
    shops = [lineage(f"shop-{n}.example.com") for n in range(7)]
    monkeypatch.setattr(overrides, "SECONDS", 5)
    large = fleet(9, templates=own.templates, lineages=(lineage(), *shops))
    assert overrides.check(large, "fleet.toml") == overrides.names()
