"""What is never gone back to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certsync.issuer.commands import rollback
from certsync.model.errors import StoreError
from tests.unit.fake_fleet import NOW, manifest
from tests.unit.issuer.fake_disk import situation


def test_an_expired_generation_is_not_gone_back_to() -> None:
    seen = situation(manifest(1), manifest(2))
    assert rollback.way(seen, NOW).to == manifest(1)
    with pytest.raises(StoreError, match="cannot roll back to generation 0001: it expired on "):
        rollback.way(seen, NOW + timedelta(days=91))
