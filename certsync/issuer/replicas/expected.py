"""What every backend should serve: the issuer's live generation."""

from __future__ import annotations

import re
import ssl

from certsync.issuer.situation import Situation
from certsync.system.proving import Expected

PEM_BLOCK = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def expected(seen: Situation) -> Expected:
    """Return what every backend should serve, from the issuer's live link."""
    current = seen.kept.get(seen.current or 0)
    if current is None:
        return Expected(None, (), tuple(seen.manifests.values()), seen.roots)
    blocks = PEM_BLOCK.findall(current.fullchain.decode())
    chain = tuple(ssl.PEM_cert_to_DER_cert(block) for block in blocks)
    return Expected(current.manifest, chain, tuple(seen.manifests.values()), seen.roots)
