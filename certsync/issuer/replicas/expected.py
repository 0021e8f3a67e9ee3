"""What every backend should serve, from what the issuer has made live."""

from __future__ import annotations

import re
import ssl

from certsync.issuer.store import Store
from certsync.model.fleet import SYSTEM_ROOTS, Fleet
from certsync.system.proving import Expected

PEM_BLOCK = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def expected(fleet: Fleet, store: Store) -> Expected:
    """Return what every backend should serve, from what the issuer's live link points to.

    Raises:
        StoreError: the store cannot be read.
    """
    manifests = store.manifests(fleet.lineage)
    current = manifests.get(store.current(fleet.lineage) or 0)
    roots = str(store.roots) if fleet.authority.roots else SYSTEM_ROOTS
    chain: tuple[bytes, ...] = ()
    if current is not None:
        pem = store.files(fleet.lineage, current.number)["fullchain.pem"].decode()
        chain = tuple(ssl.PEM_cert_to_DER_cert(block) for block in PEM_BLOCK.findall(pem))
    return Expected(current, chain, tuple(manifests.values()), roots)
