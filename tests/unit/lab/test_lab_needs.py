"""What a lab says when a right or a tool is missing. Nothing is ever skipped for it."""

from __future__ import annotations

import os
import shutil

import pytest

from lab import Lab, LabError, needs


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def without(monkeypatch: pytest.MonkeyPatch, *tools: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool in tools else f"/bin/{tool}")


@pytest.mark.usefixtures("as_root")
def test_nothing_is_asked_for_when_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch)
    needs.require()


def test_not_root_names_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError) as caught:
        needs.require()
    assert (
        str(caught.value)
        == "a lab needs root: it makes network namespaces and boots systemd-nspawn hosts"
    )
    assert caught.value.hint == "run it again with sudo"


@pytest.mark.usefixtures("as_root")
def test_missing_tools_name_their_packages_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "systemd-nspawn", "ssh", "ssh-keygen", "mmdebstrap")
    with pytest.raises(LabError) as caught:
        needs.require()
    packages = "mmdebstrap openssh-client systemd-container"
    assert str(caught.value) == f"tools are missing: {packages}"
    assert caught.value.hint == f"apt-get install --no-install-recommends {packages}"


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("tool", sorted(needs.PACKAGES))
def test_every_tool_has_a_package_to_name(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    without(monkeypatch, tool)
    with pytest.raises(LabError, match=f"^tools are missing: {needs.PACKAGES[tool]}$"):
        needs.require()


@pytest.mark.parametrize("enter", [Lab.up, Lab.down, Lab.__enter__])
def test_up_down_and_with_all_refuse_before_they_begin(
    monkeypatch: pytest.MonkeyPatch, enter: object
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert callable(enter)
    with pytest.raises(LabError, match=r"^a lab needs root: "):
        enter(Lab("refused"))


@pytest.mark.parametrize("name", ["", "two words", "../lab", "thirteenchars"])
def test_a_name_that_could_harm_is_refused(name: str) -> None:
    with pytest.raises(LabError) as caught:
        Lab(name)
    assert str(caught.value) == f"bad name for a lab: {name!r}"
    assert caught.value.hint == "use at most 12 letters and digits"


@pytest.mark.parametrize("count", [0, 51])
def test_a_lab_has_one_to_fifty_backends(count: int) -> None:
    with pytest.raises(LabError) as caught:
        Lab(backends=count)
    assert (str(caught.value), caught.value.hint) == (f"{count} backends", "a lab has 1 to 50")


@pytest.mark.parametrize("count", [0, 10])
def test_a_lab_has_one_to_nine_balancers(count: int) -> None:
    with pytest.raises(LabError) as caught:
        Lab(balancers=count)
    assert (str(caught.value), caught.value.hint) == (f"{count} balancers", "a lab has 1 to 9")


def test_several_balancers_share_addresses_that_no_host_has() -> None:
    lab = Lab(balancers=2, backends=50)
    assert [each.name for each in lab.balancers] == ["balancer", "balancer-02"]
    numbers = [each.number for each in lab.machines]
    assert len(set(numbers)) == len(numbers)
    assert not set(lab.public) & {each.address for each in lab.machines}
    assert Lab().public == (Lab().balancer.address, Lab().balancer.address6)
