"""How many connections a balancer takes: what its memory and its open files are good for."""

from __future__ import annotations

import pytest

from certsync.model.options import Balancing
from certsync.operator.balancer.capacity import max_connections
from tests.unit.fake_fleet import fleet

GIB = 1024 * 1024


@pytest.mark.parametrize(
    ("told", "connections"),
    [
        ([f"{GIB}", "1048576", "524288"], 8000),
        ([f"{GIB - 90_000}", "1048576", "524288"], 7000),
        ([f"{GIB // 32}", "1048576", "524288"], 1000),
        ([f"{64 * GIB}", "1048576", "524288"], 261_000),
        ([f"{64 * GIB}", "20000", "524288"], 9000),
        ([f"{GIB // 32}", "4096", "4096"], 1000),
        ([f"{GIB}", "2800", "524288"], 900),
        ([f"{GIB}", "1024", "524288"], 100),
        ([f"{GIB}", "256", "524288"], 100),
        ([f"{GIB}", "unlimited", "infinity"], 8000),
        ([], 0),
        (["", "", ""], 0),
    ],
)
def test_it_is_what_the_scarcer_of_memory_and_files_is_good_for(
    told: list[str], connections: int
) -> None:
    assert max_connections(fleet(), told) == connections


def test_the_fleet_file_has_the_last_word() -> None:
    made = fleet(balancing=Balancing(max_connections=77))
    assert max_connections(made, [f"{GIB}", "1024", "1024"]) == 77
    assert max_connections(made, []) == 77
