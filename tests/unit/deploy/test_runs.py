"""The files that pyinfra runs as scripts: whole, their phases in order, and no module untested."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from certsync.operator.deployment import operations
from certsync.operator.deployment.operations import Phase

ROOT = Path(__file__).parent.parent.parent.parent
SCRIPTS = ("leave", "remove", "site")


def tree(script: str) -> ast.Module:
    path = ROOT / f"deploy/{script}.py"
    return ast.parse(path.read_text(), str(path))


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """Give the calls within, in the order of the file."""
    found = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    yield from sorted(found, key=lambda each: (each.lineno, each.col_offset))


def called(node: ast.AST) -> list[str]:
    return [ast.unparse(each.func) for each in calls(node)]


def phase_of(argument: ast.expr) -> Phase:
    """Return the phase that a script begins: one of the operations', or one that it makes."""
    if isinstance(argument, ast.Attribute):
        assert ast.unparse(argument.value) == "operations"
        found = getattr(operations, argument.attr)
        assert isinstance(found, Phase)
        return found
    assert isinstance(argument, ast.Call)
    assert ast.unparse(argument.func) == "Phase"
    return Phase(*(ast.literal_eval(each) for each in argument.args))


def phases(node: ast.AST) -> list[Phase]:
    return [phase_of(each.args[0]) for each in calls(node) if ast.unparse(each.func) == "phase"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run(script: str) -> None:
    compile(tree(script), script, "exec")


@pytest.mark.parametrize("script", SCRIPTS)
def test_phases_are_numbered_from_one_to_the_last_without_a_gap(script: str) -> None:
    usual = [each for each in phases(tree(script)) if each != operations.NEW_ISSUER]
    assert usual == sorted(usual)
    assert [each.number for each in usual] == [*range(1, len(usual) + 1)]
    assert {each.of for each in usual} == {len(usual)}
    assert len({each.title for each in usual}) == len(usual)


def test_the_whole_road_has_every_phase_that_people_may_read_of() -> None:
    named = {each for each in vars(operations).values() if isinstance(each, Phase)}
    assert {*phases(tree("site")), operations.OUT_OF_THE_POOLS} == named
    assert operations.OUT_OF_THE_POOLS in phases(tree("remove"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_phase_begins_on_every_host_whatever_the_host_is(script: str) -> None:
    # A phase that one host leaves out would not hold that host back.
    for node in ast.walk(tree(script)):
        if isinstance(node, ast.If) and phases(node):
            assert ast.unparse(node.test) == "promoting"


@pytest.mark.parametrize("script", SCRIPTS)
def test_hosts_are_looked_at_with_the_lock_held_and_before_anything_is_done(script: str) -> None:
    order = called(tree(script))
    look = "refuse_foreign_servers" if script == "site" else "surveys.ask_all"
    begin = ["progress.report", "progress.go_on", look, "phase"]
    assert sorted(begin, key=order.index) == begin
    assert order.index("phase") < order.index("carried_out")


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_is_done_before_the_first_phase_or_under_a_name_that_two_have(script: str) -> None:
    names = [
        ast.literal_eval(word.value)
        for each in calls(tree(script))
        if ast.unparse(each.func) in ("carried_out", "barrier", "fellows.require_released")
        for word in each.keywords
        if word.arg == "name"
    ]
    assert names
    assert len({*names}) == len(names)


def test_every_module_has_unit_cases_or_is_one_of_the_scripts() -> None:
    modules = {path.stem for path in (ROOT / "deploy").glob("[a-z]*.py")}
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert modules - tested == {*SCRIPTS}
    assert all((ROOT / f"deploy/{script}.py").exists() for script in SCRIPTS)
