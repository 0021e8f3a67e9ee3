"""A fleet's own templates: what they replace, and every way in which one is told to be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from certsync.model.errors import FleetFileError, Mistake
from certsync.model.fleet import Fleet
from certsync.model.options import Balancing
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate
from certsync.operator.commands.check import check
from certsync.operator.fleet_file import read_fleet
from certsync.operator.hosts.facts import MARK
from certsync.operator.rendering import overrides, templates
from tests.unit.fake_fleet import fleet, lineage

OURS = templates.road() / "templates"
SITE = "nginx/site.conf.j2"
HAPROXY = "haproxy/haproxy.cfg.j2"
OPEN = dict.fromkeys(("backend-01", "backend-02", "backend-03"), True)


@pytest.fixture
def own(tmp_path: Path) -> Fleet:
    """Return a fleet with an empty folder of its own templates."""
    (tmp_path / "templates").mkdir()
    return fleet(templates=str(tmp_path / "templates"))


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try templates here: a child process for each test takes long (test_overrides_limits.py)."""

    def tried(own: Fleet, names: list[str]) -> list[Mistake]:
        found = [mistake for name in names for mistake in overrides.mistakes_of(own, name)]
        return list(dict.fromkeys(found))

    monkeypatch.setattr(overrides, "tried", tried)


def put(own: Fleet, name: str, text: str) -> None:
    path = Path(own.templates) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mistakes(own: Fleet) -> list[Mistake]:
    with pytest.raises(FleetFileError) as caught:
        overrides.check(own, "fleet.toml")
    return caught.value.mistakes


def test_what_is_rendered_and_nothing_else_can_be_replaced() -> None:
    assert overrides.names() == [
        "haproxy/haproxy.cfg.j2",
        "keepalived/keepalived.conf.j2",
        "keepalived/service.conf.j2",
        "nginx/balancers.conf.j2",
        "nginx/challenge.conf.j2",
        "nginx/default.conf.j2",
        "nginx/lb.html.j2",
        "nginx/site.conf.j2",
        "nginx/ssl.conf.j2",
        "nginx/tickets.conf.j2",
        "renewal/certsync-renew.service.j2",
        "renewal/certsync-renew.timer.j2",
        "renewal/cron.j2",
    ]


def test_a_fleet_without_such_a_folder_replaces_nothing() -> None:
    assert overrides.check(fleet(), "fleet.toml") == []


@pytest.mark.parametrize("name", overrides.names())
def test_each_template_of_ours_with_a_line_more_takes_the_place_of_ours(
    own: Fleet, name: str
) -> None:
    put(own, name, (OURS / name).read_text() + "# a line more\n")
    assert overrides.check(own, "fleet.toml") == [name]


def test_its_text_is_what_is_written(own: Fleet) -> None:
    put(own, SITE, "# {{ header }}\nserver { server_name {{ lineage.names[0] }}; }\n")
    made = templates.nginx(own, own.issuer, http2_directive=True)
    assert made[f"sites-available/certsync-{own.name}.conf"] == (
        f"# {templates.HEADER}\nserver {{ server_name passthrough.example.com; }}\n"
    )


@pytest.mark.parametrize(
    ("name", "first"),
    [(SITE, f"# {templates.HEADER}"), ("nginx/lb.html.j2", f"<!-- {templates.HEADER} -->")],
)
def test_one_without_the_first_line_that_says_it_is_ours_is_given_it(
    own: Fleet, name: str, first: str
) -> None:
    put(own, name, "mine\n")
    machine = own.issuer
    made = templates.nginx(own, machine, http2_directive=True)
    page = templates.test_page(machine, own.templates)
    text = page if "html" in name else made[f"sites-available/certsync-{own.name}.conf"]
    assert text == f"{first}\nmine\n"
    assert MARK in first


def test_a_copy_of_ours_to_the_byte_and_hidden_files_replace_nothing(own: Fleet) -> None:
    put(own, "replica/forced-command", (OURS / "replica/forced-command").read_text())
    put(own, SITE, (OURS / SITE).read_text())
    put(own, "nginx/.site.conf.j2.swp", "x")
    assert overrides.check(own, "fleet.toml") == []


def test_a_misspelt_name_is_told_with_all_names(own: Fleet) -> None:
    put(own, "nginx/sites.conf.j2", "x")
    put(own, "replica/forced-command", "#!/bin/sh\n")
    found = mistakes(own)
    assert [each.place for each in found] == [
        "templates/nginx/sites.conf.j2", "templates/replica/forced-command",
    ]  # fmt: skip
    assert {each.message for each in found} == {"replaces no template"}
    assert found[0].hint.startswith("certsync has: haproxy/haproxy.cfg.j2, keepalived/")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        pytest.param(
            "one\n{% if %}\n", "line 2", "Expected an expression, got 'end of statement block'",
            id="syntax",
        ),
        pytest.param("one\ntwo {{ flet.names }}\n", "line 2", "'flet' is undefined", id="name"),
        pytest.param(
            "\n\n{{ fleet.nam }}\n", "line 3", "'certsync.model.fleet.Fleet object' has no "
            "attribute "
            "'nam'", id="attribute",
        ),
        pytest.param("{{ 1 / 0 }}\n", "line 1", "division by zero", id="arithmetic"),
        pytest.param(
            "one\n{% include 'other.conf' %}\n", "line 2",
            "'other.conf' not found in search paths: ", id="include",
        ),
        pytest.param(
            "\n{% if machine.name == 'backend-03' %}\n{{ oops }}{% endif %}\n", "line 3",
            "'oops' is undefined", id="on one backend only",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_template_is_told_with_its_line(
    own: Fleet, text: str, place: str, message: str
) -> None:
    put(own, SITE, text)
    [found] = mistakes(own)
    assert found.place == f"templates/{SITE}, {place}"
    assert found.message.startswith(message)


def test_one_that_cannot_be_read_is_told(own: Fleet) -> None:
    put(own, SITE, "")
    (Path(own.templates) / SITE).write_bytes(b"\xff\xfe")
    [found] = mistakes(own)
    assert (found.place, found.message) == (
        f"templates/{SITE}", "cannot be read: it is not UTF-8 text",
    )  # fmt: skip


def test_a_haproxy_cfg_of_ones_own_that_keeps_the_gate_is_taken(own: Fleet) -> None:
    text = (OURS / HAPROXY).read_text().replace("timeout client 60s", "timeout client 7s")
    put(own, HAPROXY, text)
    assert overrides.check(own, "fleet.toml") == [HAPROXY]
    wanted = Gate(True, {own.name: {**OPEN, "backend-02": False}}, OPEN, dict.fromkeys(OPEN, 8443))
    made = templates.haproxy(own, own.balancers[0], wanted)
    assert "timeout client 7s" in made
    assert gate.read(made) == wanted


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param("frontend tls", "frontend https", id="no rule to be read"),
        pytest.param("backend {{ pool }}\n", "backend pool\n", id="no pool to be read"),
        pytest.param('{{ "" if gate.pools[lineage.name][host.name] else " disabled" }}', "",
                     id="all take traffic"),
        pytest.param(" send-proxy-v2", "", id="nobody is told the client's address"),
        pytest.param("{% if gate.rule %}", "{% if true %}", id="the rule is always on"),
        pytest.param(':80{{ "" if gate.web[host.name] else " disabled" }}', ":80",
                     id="all take plain HTTP"),
    ],
)  # fmt: skip
def test_a_haproxy_cfg_that_does_not_keep_the_gate_is_refused(
    own: Fleet, ours: str, theirs: str
) -> None:
    text = (OURS / HAPROXY).read_text()
    assert ours in text
    put(own, HAPROXY, text.replace(ours, theirs))
    [found] = mistakes(own)
    assert found.place == f"templates/{HAPROXY}"
    assert found.message.startswith("does not record who takes traffic")
    assert found.hint.startswith("keep `frontend tls`, the backends `tls`, ")


def test_a_haproxy_cfg_without_the_proxy_protocol_is_taken_where_nobody_is_to_be_told(
    own: Fleet,
) -> None:
    put(own, HAPROXY, (OURS / HAPROXY).read_text().replace(" send-proxy-v2", ""))
    silent = replace(own, balancing=Balancing(proxy_protocol=False))
    assert overrides.check(silent, "fleet.toml") == [HAPROXY]
    assert len(mistakes(own)) == 1


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('COMMAND').read() }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('COMMAND') }}",
    "{{ (fleet.__class__.__module__ ~ '').__class__.format('{0.__class__}', 1) }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ '{0.__class__.__mro__}'.format('') }}{{ fleet.names.__class__ }}",
    "{{ fleet.names.count.__self__.__class__ }}",
]


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("name", [SITE, HAPROXY, "renewal/cron.j2", "nginx/lb.html.j2"])
def test_a_template_that_reaches_out_of_its_own_is_refused_and_runs_nothing(
    own: Fleet, tmp_path: Path, name: str, escape: str
) -> None:
    ran = tmp_path / "ran"
    put(own, name, f"first\n{escape.replace('COMMAND', f'touch {ran}')}\n")
    [found] = mistakes(own)
    assert found.place.startswith(f"templates/{name}, line 2")
    assert not ran.exists()


@pytest.mark.parametrize("name", [SITE, HAPROXY])
def test_a_template_of_before_a_fleet_had_lineages_is_refused_where_it_named_one(
    own: Fleet, name: str
) -> None:
    put(own, name, "first\n{{ fleet.lineage }}\n")
    [found] = mistakes(own)
    assert found.place.startswith(f"templates/{name}, line 2")
    assert "has no attribute 'lineage'" in found.message


def test_a_template_cannot_change_what_the_next_one_is_given(own: Fleet) -> None:
    put(own, SITE, "{{ fleet.__dict__.clear() }}")
    [found] = mistakes(own)
    assert found.place == f"templates/{SITE}, line 1"
    put(own, SITE, "{% set own = [] %}\n{{ own.append(1) }}")
    [found] = mistakes(own)
    assert found.place == f"templates/{SITE}, line 2"


TOLD = "{% set t %}{% include 'NAME' %}{% endset %}{{ {}[t] }}"
"""Ends in an error whose message is the text of a file."""


@pytest.mark.parametrize(
    ("link", "target", "name"),
    [
        (".x", "secret", ".x"),
        ("x", "secret", "x"),
        ("nginx/x", "secret", "nginx/x"),
        ("linked", ".", "linked/secret"),
        (".linked", ".", ".linked/secret"),
        ("dots", "templates/../secret", "dots"),
    ],
)
def test_a_template_reads_no_file_outside_of_its_folder(
    own: Fleet, tmp_path: Path, link: str, target: str, name: str
) -> None:
    (tmp_path / "secret").write_text("swordfish")
    put(own, SITE, TOLD.replace("NAME", name))
    (Path(own.templates) / link).symlink_to(tmp_path / target)
    assert "swordfish" not in str(mistakes(own))
    with pytest.raises(jinja2.TemplateNotFound):
        templates.nginx(own, own.issuer, http2_directive=True)


@pytest.mark.parametrize("link", ["nginx", SITE])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_out_of_the_folder_is_told(
    own: Fleet, tmp_path: Path, link: str, *, exists: bool
) -> None:
    elsewhere = replace(own, templates=str(tmp_path / "elsewhere"))
    if exists:
        put(elsewhere, SITE, "{% broken")
    (Path(own.templates) / link).parent.mkdir(exist_ok=True)
    (Path(own.templates) / link).symlink_to(Path(elsewhere.templates) / link)
    [found] = mistakes(own)
    assert (found.place, found.message) == (
        f"templates/{link}", "is a link out of this folder, or to nothing",
    )  # fmt: skip


def test_a_link_inside_of_the_folder_is_followed_also_to_a_folder(own: Fleet) -> None:
    put(own, ".mine/site.conf.j2", "{{ oops }}")
    (Path(own.templates) / "nginx").symlink_to(".mine")
    (Path(own.templates) / "loop").symlink_to(".")
    [found] = mistakes(own)
    assert (found.place, found.message) == (f"templates/{SITE}, line 1", "'oops' is undefined")


def test_what_a_template_ends_in_is_told_in_few_words(own: Fleet) -> None:
    put(own, SITE, "{{ {}['x' * 100000] }}")
    [found] = mistakes(own)
    assert found.message.startswith("'dict object' has no attribute 'xxx")
    assert len(found.message) == overrides.LONGEST


SECOND = "nginx would have two default servers for {}, and would not start"


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        pytest.param(
            "    listen 80 default_server;\n    listen [::]:80 default_server;", "80, [::]:80",
            id="as certsync's once was",
        ),
        pytest.param("    listen 0.0.0.0:80 backlog=511 default_server;", "80", id="an address"),
        pytest.param("    listen *:80 default;", "80", id="its older name"),
    ],
)  # fmt: skip
def test_a_site_of_ones_own_that_is_the_default_server_too_is_refused(
    own: Fleet, listen: str, told: str
) -> None:
    text = (OURS / SITE).read_text()
    assert "    listen 80;\n" in text
    put(own, SITE, text.replace("    listen 80;\n    listen [::]:80;", listen))
    put(own, "nginx/ssl.conf.j2", (OURS / "nginx/ssl.conf.j2").read_text() + "# mine\n")
    [found] = mistakes(own)
    assert found == Mistake(
        f"templates/{SITE}",
        SECOND.format(told),
        "remove `default_server` from its `listen` lines: nginx/default.conf.j2 has it",
    )


def test_a_site_of_ones_own_is_the_default_server_where_it_is_the_only_one(own: Fleet) -> None:
    text = (OURS / SITE).read_text()
    put(own, SITE, text.replace("listen 443 ssl;", "listen 443 ssl default_server;"))
    put(own, "nginx/default.conf.j2", "# listen 80 default_server;\nserver { listen 80; }\n")
    assert overrides.check(own, "fleet.toml") == ["nginx/default.conf.j2", SITE]
    [found] = mistakes(replace(own, lineages=(lineage(), lineage("shop.example.com"))))
    assert (found.place, found.message) == (f"templates/{SITE}", SECOND.format("443"))


def test_check_reads_the_folder_beside_the_fleet_file_and_says_what_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "fleet.toml"
    example = (OURS.parent / "inventory/example.toml").read_text()
    path.write_text(example.replace("agree_to_terms = false", "agree_to_terms = true"))
    assert read_fleet(path).templates == ""
    own = tmp_path / "templates"
    (own / "nginx").mkdir(parents=True)
    (own / SITE).write_text("# mine\n")
    assert read_fleet(path).templates == str(own)
    assert check(path).splitlines()[1] == f"templates/{SITE} replaces certsync's own"


def test_the_folder_is_the_operators_and_is_not_told_to_the_issuer(own: Fleet) -> None:
    rendered = own.to_json()
    assert rendered["templates"] == own.templates
    older = {key: value for key, value in rendered.items() if key != "templates"}
    assert Fleet.from_json(json.dumps(older)).templates == ""
