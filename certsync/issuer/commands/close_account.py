"""`certsync close-account`, on a host that is no longer the issuer: its account at the CA ends."""

from __future__ import annotations

from certsync.issuer.run import Session
from certsync.issuer.store import Store
from certsync.model.errors import StoreError


def outlook(store: Store) -> list[str]:
    """Return what is to be done, in words; nothing: there is no account.

    Raises:
        StoreError: this host is no issuer.
    """
    from certsync.issuer.ca import issuance

    fleet = store.fleet()
    if not issuance.has_account(fleet, store):
        return []
    return [
        f"deactivate our account at {fleet.authority.directory}",
        f"remove {store.account(fleet.authority.directory)}",
    ]


def close_account(session: Session) -> None:
    """Deactivate our account at the CA, as far as the CA can be asked, and remove its key.

    Raises:
        StoreError: this host is no issuer, or keys are compromised: it alone knows which ones,
            and its account has to ask for their revocation.
    """
    from certsync.issuer.ca import issuance

    store = session.store
    fleet = store.fleet()
    marks = [store.compromised(each.name).waiting() for each in fleet.lineages]
    if waiting := "; ".join(each for each in marks if each):
        raise StoreError(
            f"this issuer may not go yet: {waiting}",
            "have that finished first: sudo certsync renew here says what it waits for",
        )
    if not issuance.has_account(fleet, store):
        return
    if issuance.give_up_account(fleet, store, session.tell):
        session.done.append("deactivated our account at the CA")
    session.done.append("removed the account's key")
