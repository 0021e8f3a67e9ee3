"""Which generation should be live, and what a manifest says."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from certsync.model.errors import StoreError
from certsync.model.generation import Manifest, before, believed, next_free, number_text, target
from tests.unit.fake_fleet import manifest


@pytest.mark.parametrize(
    ("numbers", "withdrawn", "wanted"),
    [
        pytest.param([], [], None, id="before the first issue"),
        pytest.param([0], [], None, id="the placeholder is no generation"),
        pytest.param([1], [], 1, id="the first one"),
        pytest.param([1, 2], [], 2, id="one that an interrupted run made is finished"),
        pytest.param([1, 2], [2], 1, id="one that was rolled back stays back"),
        pytest.param([1, 2, 3], [2], 3, id="the one after it is taken"),
        pytest.param([1, 2, 3], [3, 2], 1, id="two that were rolled back"),
        pytest.param([2], [2], None, id="nothing is left"),
    ],
)
def test_target(numbers: list[int], withdrawn: list[int], wanted: int | None) -> None:
    assert target(numbers, withdrawn) == wanted


@pytest.mark.parametrize(
    ("numbers", "withdrawn", "number", "wanted"),
    [
        pytest.param([1, 2, 3], [], 3, 2, id="the one before"),
        pytest.param([1, 2, 3], [2], 3, 1, id="but none that was rolled back itself"),
        pytest.param([3], [], 3, None, id="nothing before it is kept"),
    ],
)
def test_a_rollback_leads_to(
    numbers: list[int], withdrawn: list[int], number: int, wanted: int | None
) -> None:
    assert before(numbers, withdrawn, number) == wanted


@pytest.mark.parametrize(
    ("own", "claimed", "number"),
    [
        pytest.param(0, (), 1, id="they begin at one"),
        pytest.param(7, (), 8, id="and count on"),
        pytest.param(0, (1, 2, 3), 4, id="an issuer set up anew passes over its replicas'"),
        pytest.param(7, (9999,), 8, id="a replica's high number moves nothing"),
        pytest.param(7, range(10_000), 8, id="one that claims all of them is not believed"),
        pytest.param(1, range(1, 9999), 2, id="nor one that leaves the last one free"),
        pytest.param(7, range(8, 23), 23, id="claims that are near are passed over"),
        pytest.param(9998, (), 9999, id="the last one is a number"),
    ],
)
def test_the_next_number(own: int, claimed: Collection[int], number: int) -> None:
    assert next_free(own, claimed) == number


def test_a_replica_that_claims_too_much_leaves_the_others_claims_as_they_are() -> None:
    honest, hostile = {1, 8, 9, 10}, set(range(3, 40))
    assert believed(7, [honest, hostile]) == {8, 9, 10}
    assert next_free(7, believed(7, [honest, hostile])) == 11
    assert believed(7, [{100}, set()]) == set()


def test_the_end_of_the_numbers_is_an_error_that_says_how_to_go_on() -> None:
    for own in (9999, 10_000):
        with pytest.raises(StoreError, match="is the highest possible generation number") as caught:
            next_free(own, ())
        assert "move the folders with the highest numbers" in caught.value.hint


def test_numbers_are_written_with_four_digits() -> None:
    assert number_text(7) == "0007"


def test_a_manifest_is_read_as_it_was_written() -> None:
    before = manifest(3)
    assert Manifest.from_json(before.to_json(), "there") == before


def test_a_newer_manifest_is_refused_with_its_number() -> None:
    text = manifest().to_json().replace(b'"schema": 1', b'"schema": 9')
    with pytest.raises(StoreError) as caught:
        Manifest.from_json(text, "/there/manifest.json")
    assert caught.value.message == (
        "/there/manifest.json has schema 9, but this certsync reads up to 1"
    )
    assert caught.value.hint == "a newer certsync wrote it: deploy again with that version"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"schema": 1}', b"\xff"])
def test_what_is_no_manifest_is_told_with_its_place(text: bytes) -> None:
    with pytest.raises(StoreError, match=r"^/there is not a manifest: "):
        Manifest.from_json(text, "/there")
