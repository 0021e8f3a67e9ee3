"""`certsync take-over` and `certsync retire-certbot`, on the issuer: what `certsync adopt` drives.

The first makes certbot's certificate a generation of ours, without an order. The second, when every
backend has been proven, tells certbot to no longer renew that lineage; its timer stays.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from certsync.issuer.ca import before_order
from certsync.issuer.replicas.expected import expected
from certsync.issuer.run import Run
from certsync.issuer.situation import Situation
from certsync.issuer.store import generation_files, sums
from certsync.model import certbot
from certsync.model.certbot import Public
from certsync.model.certificate import belongs, key_pem, load_key
from certsync.model.errors import RolloutError, StoreError
from certsync.model.generation import Manifest, number_text
from certsync.model.proof import Verdict
from certsync.system import proving
from certsync.system.files import write_whole

PEMS = ("cert.pem", "chain.pem", "fullchain.pem")


@dataclass(frozen=True)
class Found:
    """What certbot has for the fleet, fit to be taken over."""

    public: Public
    key: bytes
    """PEM, as certsync writes one."""

    taken: bool
    """Whether it is a generation already, or a newer one is there."""

    def steps(self) -> list[str]:
        """Return what is to be done, in words; nothing: it is done."""
        fingerprint = self.public.certificate.fingerprint[:12]
        return [] if self.taken else [f"keep certbot's certificate {fingerprint} as a generation"]


def look(seen: Situation, now: datetime, home: Path = Path(certbot.HOME)) -> Found:
    """Return what certbot has for the fleet, changing nothing.

    Raises:
        StoreError: it has nothing that can be taken over; why, and what to do instead.
    """
    lineage = seen.name
    folder = home / "live" / lineage
    if not (folder / "fullchain.pem").exists():
        there = [path.parent.name for path in home.glob("live/*/fullchain.pem")]
        raise certbot.missing(lineage, there)
    pems = {name: _text(folder / name) for name in PEMS}
    public = certbot.read(lineage, pems, _text(home / "renewal" / f"{lineage}.conf"))
    taken = certbot.is_taken(public, list(seen.manifests.values()))
    if not taken:
        certbot.refuse_unfit(seen.fleet, seen.lineage, public, now)
    key = load_key(_text(folder / "privkey.pem").encode())
    if not belongs(key, public.certificate):
        raise StoreError(
            f"{folder}: privkey.pem does not belong to cert.pem",
            "certbot certificates shows what it has",
        )
    return Found(public, key_pem(key), taken)


def take_over(run: Run) -> int | None:
    """Keep certbot's certificate as the next generation, and return its number; it is not live yet.

    None: it is kept already. No order follows: it is what the fleet file asks for.

    Raises:
        StoreError: certbot has nothing that can be taken over, or the disk refuses.
    """
    found, seen = look(run.seen, run.now), run.seen
    if found.taken:
        return None
    certificate = found.public.certificate
    files = generation_files(found.key, certificate)
    manifest = Manifest(
        lineage=seen.name,
        number=before_order.free_number(run),
        names=certificate.names,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        key_type=seen.lineage.key_type.value,
        directory=seen.fleet.authority.directory,
        # Certbot's, not ours: so no order of ours says that it replaces this one.
        account="",
        files=sums(files),
        renewal_id=certificate.renewal_id,
    )
    seen.store.prove_writable()
    seen.store.keep(manifest, found.key, certificate)
    run.tell(
        f"generation {number_text(manifest.number)}: {manifest.fingerprint[:12]} from certbot, "
        f"valid until {manifest.not_after:%Y-%m-%d %H:%M} UTC"
    )
    return manifest.number


def retire_certbot(seen: Situation, now: datetime, home: Path = Path(certbot.HOME)) -> list[str]:
    """Have certbot no longer renew the lineage, and return in words what was changed: one line.

    Raises:
        RolloutError: a backend does not serve the current generation; nothing was changed.
        StoreError: certbot has no such lineage, or its file cannot be written.
    """
    path = home / "renewal" / f"{seen.name}.conf"
    before = _text(path)
    after = certbot.not_renewed(before)
    if after == before:
        return []
    proofs = proving.prove(seen.holders, seen.name, expected(seen), now)
    if behind := [f"{each.name}: {each.why}" for each in proofs if _is_not_proven(each.verdict)]:
        raise RolloutError(
            f"certbot goes on renewing {seen.name}, because not every backend serves the "
            f"current generation: {'; '.join(behind)}",
            "run `certsync adopt FLEET` again when this is fixed",
        )
    _write(path, after)
    return [
        f"{path}: {certbot.OFF}, so that certbot no longer renews {seen.name}",
        "to undo it, take that line out of [renewalparams]; other lineages are as they were",
    ]


def _is_not_proven(verdict: Verdict) -> bool:
    return verdict is not Verdict.IN_SYNC


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", "certbot certificates shows it") from None
    except UnicodeDecodeError:
        raise StoreError(f"{path} is no text", "certbot certificates shows it") from None


def _write(path: Path, text: str) -> None:
    """Replace a file of somebody else's, whole, with its mode and owner."""
    # Where it is a link, what it leads to.
    target = path.resolve()
    facts = target.stat()
    write_whole(target, text.encode(), mode=stat.S_IMODE(facts.st_mode))
    os.chown(target, facts.st_uid, facts.st_gid)
