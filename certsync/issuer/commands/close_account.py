"""`certsync close-account`, on a host that stops being the issuer: deactivate its CA account."""

from __future__ import annotations

from certsync.issuer.run import Session
from certsync.issuer.store import Store
from certsync.model.errors import StoreError


def outlook(store: Store) -> list[str]:
    """Return what to do, in words; empty: there is no account.

    Raises:
        StoreError: this host is not an issuer.
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
    """Deactivate our account at the CA, if the CA can be reached, and remove its key.

    Raises:
        StoreError: this host is not an issuer, or keys are compromised: only this host knows which,
            and its account has to revoke them.
    """
    from certsync.issuer.ca import issuance

    store = session.store
    fleet = store.fleet()
    marks = [store.compromised(each.name).waiting() for each in fleet.lineages]
    if waiting := "; ".join(each for each in marks if each):
        raise StoreError(
            f"this issuer cannot be retired yet: {waiting}",
            "finish that first: `sudo certsync renew` here shows what it is waiting for",
        )
    if not issuance.has_account(fleet, store):
        return
    if issuance.give_up_account(fleet, store, session.tell):
        session.done.append("deactivated our account at the CA")
    session.done.append("removed the account's key")
