"""`certsync take-over` and `certsync retire-certbot`, on the issuer, run by `certsync adopt`.

The first makes certbot's certificate one of our generations, without an order. The second, once
every backend is proven, stops certbot from renewing that lineage; its timer stays.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
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
    """What certbot has for the fleet, ready to be taken over."""

    public: Public
    key: bytes = field(repr=False)
    """PEM, in certsync's format."""

    taken: bool
    """Whether it is a generation already, or a newer one exists."""

    def steps(self) -> list[str]:
        """Return what to do, in words; empty: nothing."""
        fingerprint = self.public.certificate.fingerprint[:12]
        return [] if self.taken else [f"keep certbot's certificate {fingerprint} as a generation"]


def look(seen: Situation, now: datetime, home: Path = Path(certbot.HOME)) -> Found:
    """Return what certbot has for the fleet, without changing anything.

    Raises:
        StoreError: it has nothing that can be taken over, with the reason and what to do instead.
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
            "`certbot certificates` lists what it has",
        )
    return Found(public, key_pem(key), taken)


def take_over(run: Run) -> int | None:
    """Keep certbot's certificate as the next generation, and return its number; it is not live yet.

    None: it is kept already. No order follows, because it matches the fleet file.

    Raises:
        StoreError: certbot has nothing that can be taken over, or the disk cannot be written.
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
        # Certbot's account, not ours, so no order of ours claims to replace this one.
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
    """Stop certbot from renewing the lineage, and return what was changed, in words.

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
            f"certbot still renews {seen.name}, because not every backend serves the "
            f"current generation: {'; '.join(behind)}",
            "run `certsync adopt FLEET` again when this is fixed",
        )
    _write(path, after)
    return [
        f"{path}: {certbot.OFF}, so that certbot no longer renews {seen.name}",
        "to undo this, remove that line from [renewalparams]; other lineages are unchanged",
    ]


def _is_not_proven(verdict: Verdict) -> bool:
    return verdict is not Verdict.IN_SYNC


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", "see `certbot certificates`") from None
    except UnicodeDecodeError:
        raise StoreError(f"{path} is not a text file", "see `certbot certificates`") from None


def _write(path: Path, text: str) -> None:
    """Replace somebody else's file completely, keeping its mode and owner."""
    # If it is a link, replace its target.
    target = path.resolve()
    facts = target.stat()
    write_whole(target, text.encode(), mode=stat.S_IMODE(facts.st_mode))
    os.chown(target, facts.st_uid, facts.st_gid)
