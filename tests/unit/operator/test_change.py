"""A change of a fleet, and what it does to the text of a fleet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tomlkit

from certsync.model.errors import CertsyncError, FleetFileError
from certsync.operator.change import Addition, Change, named
from certsync.operator.commands import add_backend
from certsync.operator.fleet_file import opened, read_fleet
from certsync.operator.fleet_file.editing import changed, write
from certsync.operator.hosts.facts import Adopt

FILE = """\
# Ours.
names = ["passthrough.example.com"]
public_addresses = ["203.0.113.10"]

[ca]
agree_to_terms = true

[balancers.balancer]
address = "203.0.113.10"

# The first rack.
[backends.backend-01]
address = "203.0.113.11"

[backends.backend-02]
address = "203.0.113.12"  # by the window
# ssh_user = "admin"

# The second rack.
[backends.backend-03]
address = "203.0.113.13"
"""
FOUR = Addition("backend-04", "203.0.113.14", "10.0.0.14")


def test_a_backend_is_added_below_the_others_and_every_comment_is_kept() -> None:
    text = changed(FILE, Change(add=(FOUR,)))
    assert text == FILE + (
        '\n[backends.backend-04]\naddress = "203.0.113.14"\nprivate_address = "10.0.0.14"\n'
    )


def test_a_change_can_be_made_twice() -> None:
    change = Change(add=(FOUR,), remove=("backend-02",), issuer="backend-03")
    once = changed(FILE, change)
    assert changed(once, change) == once


def test_a_backend_is_taken_out_with_its_own_comments_and_no_other() -> None:
    text = changed(FILE, Change(remove=("backend-02",)))
    lost = [line for line in FILE.splitlines() if line not in text.splitlines()]
    assert lost == [
        "[backends.backend-02]",
        'address = "203.0.113.12"  # by the window',
        '# ssh_user = "admin"',
    ]
    assert "\n\n\n" not in text


def test_the_last_one_is_taken_out_and_the_file_ends_as_files_do() -> None:
    text = changed(FILE, Change(remove=("backend-03",)))
    assert text.endswith("# The second rack.\n")


@pytest.mark.parametrize(
    "backends",
    [
        'backends = { a = { address = "203.0.113.11" }, b = { address = "203.0.113.12" } }\n',
        '[backends]\na.address = "203.0.113.11"\nb.address = "203.0.113.12"\n',
        '[backends."a"]\naddress = "203.0.113.11"\n["backends".b]\naddress = "203.0.113.12"\n',
    ],
)
def test_other_ways_to_write_a_backend_are_taken_out_too(backends: str) -> None:
    text = changed(backends, Change(remove=("b",)))
    assert tomlkit.parse(text).unwrap() == {"backends": {"a": {"address": "203.0.113.11"}}}


def test_a_name_that_begins_like_another_is_not_taken_for_it() -> None:
    text = '[backends.a-1]\naddress = "203.0.113.11"\n\n[backends.a-10]\naddress = "203.0.113.12"\n'
    assert list(tomlkit.parse(changed(text, Change(remove=("a-1",))))["backends"]) == ["a-10"]


def test_the_issuer_is_named_above_the_tables_or_renamed_where_it_is_named() -> None:
    text = changed(FILE, Change(issuer="backend-02"))
    assert tomlkit.parse(text)["issuer"] == "backend-02"
    assert text.index("issuer") < text.index("[ca]")
    again = changed(text, Change(issuer="backend-03"))
    assert again == text.replace('issuer = "backend-02"', 'issuer = "backend-03"')


def test_a_fleet_is_read_with_a_change_and_its_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE)
    fleet = read_fleet(path, Change(add=(FOUR,), issuer="backend-04"))
    assert (fleet.issuer.private_address, len(fleet.backends)) == ("10.0.0.14", 4)
    assert path.read_text() == FILE


def test_a_change_that_makes_a_mistake_is_told_as_one(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE)
    with pytest.raises(FleetFileError) as raised:
        read_fleet(path, Change(add=(Addition("backend-04", "203.0.113.13"),)))
    assert [each.message for each in raised.value.mistakes] == [
        '"203.0.113.13" is also backends.backend-03.address'
    ]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[", "line 1", "not TOML: invalid initial character for a key part"),
        (f"{FILE}[ca]\n", "line 22", "[ca] appears twice"),
        (f"a = {'[' * 110}{']' * 110}", "file", "cannot be edited: TOML value nested more than"),
    ],
)
def test_a_file_that_cannot_be_changed_is_told_where(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(FleetFileError) as raised:
        str(opened(path).changing(Change(issuer="x")).text)
    [mistake] = raised.value.mistakes
    assert mistake.place == place
    assert mistake.message.startswith(message)


def test_a_written_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE)
    path.chmod(0o640)
    write(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_link_to_a_fleet_file_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "fleet.toml"
    file.write_text(FILE)
    link.symlink_to("real.toml")
    write(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["b4", "10.0.0.4"], [("b4", "10.0.0.4")]),
        (["b4=10.0.0.4"], [("b4", "10.0.0.4")]),
        (["b4=10.0.0.4", "b5=2001:db8::5"], [("b4", "10.0.0.4"), ("b5", "2001:db8::5")]),
    ],
)
def test_backends_are_named_one_way_or_the_other(
    words: list[str], found: list[tuple[str, str]]
) -> None:
    assert [(each.name, each.address) for each in named(words)] == found


@pytest.mark.parametrize("words", [["b4"], ["b4", "10.0.0.4", "b5"], ["b4=10.0.0.4", "b5"]])
def test_anything_else_is_told_how_it_is_written(words: list[str]) -> None:
    with pytest.raises(ValueError, match="give one backend as NAME ADDRESS, or several as"):
        named(words)


def test_a_private_address_is_one_backends() -> None:
    assert named(["b4", "203.0.113.14"], "10.0.0.4")[0].private_address == "10.0.0.4"
    with pytest.raises(ValueError, match="--private-address works with one backend"):
        named(["b4=203.0.113.14", "b5=203.0.113.15"], "10.0.0.4")


def test_who_leaves_is_taken_out_of_who_serves_but_never_the_last_of_them() -> None:
    served = 'served_by = ["backend-01", "backend-02"]  # the old rack\n'
    shop = '\n[lineages.shop]\nnames = ["shop.example.net"]\nserved_by = ["backend-02"]\n'
    text = FILE.replace("\n[ca]\n", f"{served}\n[ca]\n") + shop
    after = changed(text, Change(remove=("backend-02",)))
    assert 'served_by = ["backend-01"]  # the old rack\n' in after
    # None named would mean all; the check of the file tells of this one.
    assert tomlkit.parse(after).unwrap()["lineages"]["shop"]["served_by"] == ["backend-02"]


APART = (
    FILE.replace("\n[ca]\n", 'served_by = ["backend-01"]  # the old rack\n\n[ca]\n')
    + """
[lineages.shop]
names = ["shop.example.net", "www.shop.example.net"]
served_by = [
    "backend-02",  # by the window
    "backend-03",
]

[lineages.blog]
names = ["blog.example.org"]
"""
)
FIRST, SHOP, BLOG = "passthrough.example.com", "shop.example.net", "blog.example.org"


def serving(text: str) -> list[list[str] | None]:
    """Return who is named as serving what, in the file's order."""
    data = tomlkit.parse(text).unwrap()
    return [table.get("served_by") for table in (data, *data["lineages"].values())]


def test_who_comes_is_named_in_the_lineages_that_it_is_to_serve_and_no_comment_is_lost() -> None:
    old, new = ["backend-01"], ["backend-02", "backend-03"]
    change = Change(add=(replace(FOUR, serves=(SHOP,)),))
    once = changed(APART, change)
    assert serving(once) == [old, [*new, "backend-04"], None]
    assert "# the old rack" in once
    assert "# by the window" in once
    assert changed(once, change) == once
    first = changed(APART, Change(add=(replace(FOUR, serves=(FIRST,)),)))
    assert serving(first) == [[*old, "backend-04"], new, None]
    # All serve it: nobody is to be named.
    assert serving(changed(APART, Change(add=(replace(FOUR, serves=(BLOG,)),)))) == [
        old, new, None,
    ]  # fmt: skip


def test_who_comes_has_to_serve_something_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(APART)
    joining, adopt = add_backend.joining, Adopt()
    with pytest.raises(CertsyncError) as caught:
        joining(path, (replace(FOUR, serves=("www.shop.example.net",)),), adopt)
    assert caught.value.message == f"{path} has no lineage www.shop.example.net"
    assert caught.value.hint == f"its lineages, by first name: {FIRST}, {SHOP}, {BLOG}"
    joined = joining(path, (FOUR,), adopt).fleet
    assert joined.members(joined.lineages[2])[-1].name == "backend-04"
    path.write_text(f'{APART}served_by = ["backend-01"]\n')
    with pytest.raises(CertsyncError) as caught:
        joining(path, (FOUR,), adopt)
    assert caught.value.message == (
        f"backend-04 would serve nothing: no served_by in {path} lists it"
    )
    assert caught.value.hint == (f"add --serves LINEAGE, one or more of: {FIRST}, {SHOP}, {BLOG}")
    wanted = joining(path, (replace(FOUR, serves=(SHOP, BLOG)),), adopt)
    made = wanted.fleet
    assert [made.members(each)[-1].name for each in made.lineages] == [
        "backend-01", "backend-04", "backend-04",
    ]  # fmt: skip
    written = wanted.written()
    assert written is not None
    path.write_text(written[1].after)
    # The same command again, and one that trusts that it is written.
    assert joining(path, (replace(FOUR, serves=(SHOP, BLOG)),), adopt).written() is None
    assert joining(path, (FOUR,), adopt).written() is None
