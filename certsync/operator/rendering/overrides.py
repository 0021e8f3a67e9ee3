"""A fleet's own templates: which of ours they replace, and what is wrong with them.

They are in a folder `templates/` beside the fleet file, under the same relative names as ours. Each
is rendered here in every way that a deploy may render it, so that mistakes are reported before
anything is changed. A child process with limits does it, because a template may take any time and
memory.
"""

from __future__ import annotations

import filecmp
import json
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import astuple
from pathlib import Path

import jinja2

from certsync.model.errors import FleetFileError, HostError, Mistake
from certsync.model.fleet import Fleet
from certsync.operator.balancer import gate
from certsync.operator.balancer.gate import Gate
from certsync.operator.rendering import limits, templates
from certsync.system import process

HAPROXY = "haproxy/haproxy.cfg.j2"
DEFAULT = re.compile(r"(?m)(?:^|[;{])\s*listen\s+([^\s;]+)\s[^;]*\bdefault(?:_server)?\b")
"""An nginx `listen` line that makes its server the default, and the address it is for."""

PLACE = "templates"
LONGEST = 200
"""Characters shown of a template's error, which may be of any length."""

SECONDS = 10
"""Processor time for all templates of a fleet; usually they take less than one."""

SITES_A_SECOND = 20
"""A large fleet gets one more second per so many sites; they take a third of it."""

WALL_SECONDS = 300
MEMORY = 512 * 1024 * 1024
"""Bytes beyond those of the idle process."""

TOO_MUCH = "takes too long or too much memory"
CHILD = (
    "import sys; sys.path[:] = {!r}; from certsync.operator.rendering import overrides; "
    "overrides.answer()"
)


def names() -> list[str]:
    """Return the relative names of the templates that can be replaced."""
    ours = templates.road() / PLACE
    return sorted(str(path.relative_to(ours)) for path in ours.rglob("*.j2"))


def files(fleet: Fleet) -> list[str]:
    """Return the files of the fleet's own folder that differ from ours.

    A fleet file may be in a checkout, where the folder beside it is our own. Hidden files are
    ignored. In a linked folder only files with the names of our templates are found.
    """
    if not fleet.templates:
        return []
    own, ours = Path(fleet.templates), templates.road() / PLACE
    found = {name for name in (*_walked(own), *names()) if _is_own(own, name)}
    return sorted(name for name in found if not _are_same(own / name, ours / name))


def links_out(fleet: Fleet) -> list[str]:
    """Return the links in the fleet's own folder that lead out of it or are dangling."""
    own = Path(fleet.templates)
    links = [name for name in _walked(own) if (own / name).is_symlink()] if fleet.templates else []
    return [
        name
        for name in links
        if templates.leads_out(fleet.templates, name) or not (own / name).exists()
    ]


def _walked(own: Path) -> list[str]:
    found = [path.relative_to(own).as_posix() for path in sorted(own.rglob("*"))]
    return [name for name in found if not templates.is_hidden(name)]


def _is_own(own: Path, name: str) -> bool:
    return (own / name).is_file() and not templates.leads_out(str(own), name)


def _are_same(one: Path, other: Path) -> bool:
    try:
        return other.is_file() and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def check(fleet: Fleet, path: str) -> list[str]:
    """Return which of our templates the fleet replaces; ``path`` names its file in messages.

    Raises:
        FleetFileError: a file replaces no template, cannot be rendered, or gives a wrong result.
    """
    found, known = files(fleet), names()
    replaced = [name for name in found if name in known]
    mistakes = [
        Mistake(f"{PLACE}/{name}", "replaces no template", f"certsync has: {', '.join(known)}")
        for name in found
        if name not in known
    ]
    mistakes += [
        Mistake(
            f"{PLACE}/{name}", "is a link out of this folder, or to nothing", "put a copy there"
        )
        for name in links_out(fleet)
    ]
    mistakes += tried(fleet, replaced) if replaced else []
    if mistakes:
        raise FleetFileError(path, mistakes)
    return replaced


def tried(fleet: Fleet, replaced: list[str]) -> list[Mistake]:
    """Return what is wrong with the templates; a child process with limits renders them."""
    asked = {
        "fleet": json.dumps(fleet.to_json()),
        "names": replaced,
        "seconds": SECONDS + len(fleet.backends) * len(fleet.lineages) // SITES_A_SECOND,
        "memory": MEMORY,
    }
    # Isolated, so that no modules are loaded from the folder of somebody else's fleet.
    argv = [sys.executable, "-I", "-c", CHILD.format(sys.path)]
    try:
        done = process.run(argv, input=json.dumps(asked), seconds=WALL_SECONDS)
    except HostError:
        return [Mistake(PLACE, TOO_MUCH)]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    mistakes = [Mistake(*each) for answer in answers for each in answer]
    if done.status:
        name = replaced[min(len(answers), len(replaced) - 1)]
        too_much = done.status < 0 or done.error_summary.endswith(("MemoryError", "TimeoutError"))
        message = TOO_MUCH if too_much else done.error_summary
        mistakes.append(Mistake(_whole_place(fleet, name), message))
    # Templates that are rendered together report the same mistakes.
    return list(dict.fromkeys(mistakes))


def answer() -> None:
    """Try the templates that standard input names, and print a line of mistakes for each.

    It stops at the first one that takes too much: nothing is left for the others.
    """
    asked = json.load(sys.stdin)
    fleet = Fleet.from_json(asked["fleet"])
    limits.limit(asked["seconds"], asked["memory"])
    for name in asked["names"]:
        mistakes = mistakes_of(fleet, name)
        sys.stdout.write(json.dumps([astuple(each) for each in mistakes]) + "\n")
        sys.stdout.flush()
        if any(each.message == TOO_MUCH for each in mistakes):
            return


def mistakes_of(fleet: Fleet, name: str) -> list[Mistake]:
    """Return the first mistake in a template, or nothing."""
    work = _kept_gates if name == HAPROXY else _filled_in
    try:
        return work(fleet, name)
    except (PermissionError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        return [Mistake(f"{PLACE}/{name}", f"cannot be read: {why}")]
    except (TimeoutError, MemoryError) as error:
        return [Mistake(_place(fleet, name, error), TOO_MUCH)]
    except Exception as error:  # noqa: BLE001  # a template may raise anything; report it
        why = str(error)[:LONGEST] or type(error).__name__
        return [Mistake(_place(fleet, name, error), why, "compare it with certsync's own")]


def _place(fleet: Fleet, name: str, error: Exception) -> str:
    """Return which of the fleet's own templates failed, with the line if it is known."""
    frames = [(each.filename, each.lineno) for each in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, jinja2.TemplateSyntaxError):
        frames.append((error.filename or "", error.lineno))
    for path, line in reversed(frames):
        if Path(path).is_relative_to(fleet.templates):
            return f"{PLACE}/{Path(path).relative_to(fleet.templates)}, line {line}"
    return _whole_place(fleet, name)


def _whole_place(fleet: Fleet, name: str) -> str:
    """Return a template's name; its folder's name if others there are rendered with it."""
    folder = Path(name).parts[0]
    together = {each for each in files(fleet) if Path(each).parts[0] == folder} & set(names())
    return f"{PLACE}/{folder if len(together) > 1 else name}"


def _kept_gates(fleet: Fleet, name: str) -> list[Mistake]:
    for wanted in _gates(fleet):
        texts = [templates.haproxy(fleet, machine, wanted) for machine in fleet.balancers]
        if any(gate.read(text) != wanted for text in texts):
            return [
                Mistake(
                    f"{PLACE}/{name}",
                    "does not record who takes traffic: the next deploy would misread the pools "
                    "from it",
                    "keep `frontend tls`, the backends `tls`, `tls-of-NAME` and `http` with their "
                    "`server` lines, `disabled` and `send-proxy-v2`, as in certsync's own",
                )
            ]
    return []


def _gates(fleet: Fleet) -> Iterator[Gate]:
    """Yield the gate in its possible states: off, open, and with each member left out."""
    names = [machine.name for machine in fleet.backends]
    port = gate.proxy_port(fleet)
    yield _gate_without(fleet, names, rule=False, port=port)
    yield _gate_without(fleet, [], rule=True, port=0)
    for out in names:
        yield _gate_without(fleet, [out], rule=True, port=port)


def _gate_without(fleet: Fleet, out: Collection[str], *, rule: bool, port: int) -> Gate:
    pools = {
        each.name: {machine.name: machine.name not in out for machine in fleet.members(each)}
        for each in fleet.lineages
    }
    return Gate(
        rule=rule,
        pools=pools,
        web={machine.name: machine.name not in out for machine in fleet.backends},
        ports={name: port for pool in pools.values() for name in pool},
    )


def _filled_in(fleet: Fleet, name: str) -> list[Mistake]:
    fill: dict[str, Callable[[], object]] = {
        "nginx": lambda: [
            templates.nginx(fleet, machine, http2_directive=newer, hybrid_group=newer)
            for machine in fleet.backends
            for newer in (False, True)
        ],
        "renewal": lambda: templates.render_renewal(Path(name).name, fleet),
        "keepalived": lambda: [
            fill_in
            for machine in fleet.balancers
            for fill_in in (
                templates.keepalived(fleet, machine, "eth0"),
                templates.keepalived_service(fleet, "eth0"),
            )
        ],
    }
    if name == "nginx/lb.html.j2":
        for machine in fleet.backends:
            templates.test_page(machine, fleet.templates)
    else:
        fill[Path(name).parts[0]]()
    return _second_defaults(fleet, name)


def _second_defaults(fleet: Fleet, name: str) -> list[Mistake]:
    """Return a mistake if a template adds a second default server, which nginx refuses."""
    if not _defaults((Path(fleet.templates) / name).read_text("utf-8")):
        return []
    for machine in fleet.backends:
        made = templates.nginx(fleet, machine, http2_directive=True).values()
        counted = Counter(place for text in made for place in _defaults(text))
        if twice := [place for place, count in counted.items() if count > 1]:
            return [
                Mistake(
                    f"{PLACE}/{name}",
                    f"nginx would have two default servers for {', '.join(twice)}, and would not "
                    "start",
                    "remove `default_server` from its `listen` lines: nginx/default.conf.j2 has it",
                )
            ]
    return []


def _defaults(text: str) -> list[str]:
    """Return the addresses that have a default server in an nginx file: `80`, `[::]:80`."""
    places = DEFAULT.findall(re.sub(r"(?m)^\s*#.*$", "", text))
    return [re.sub(r"^(\*|0\.0\.0\.0):", "", place) for place in places]
