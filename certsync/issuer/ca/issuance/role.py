"""The account's lifetime: it is tied to the issuer's role."""

from __future__ import annotations

from collections.abc import Callable

from acme import messages

from certsync.issuer.ca.issuance.account import (
    account_key,
    has_key,
    known_account,
    open_directory,
    registered,
)
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.issuance.problem import kind, translate_acme_errors
from certsync.issuer.store import Store
from certsync.model.errors import CertsyncError
from certsync.model.fleet import SYSTEM_ROOTS, Fleet
from certsync.system.files import remove_folder

Tell = Callable[[str], None]


def has_account(fleet: Fleet, store: Store) -> bool:
    """Return whether this host has the key of an account at the fleet's CA."""
    return has_key(store.account(fleet.authority.directory))


def is_registered(fleet: Fleet, store: Store) -> bool:
    """Return whether we know our account's URL at the CA."""
    return known_account(store.account(fleet.authority.directory)) is not None


def give_up_account(fleet: Fleet, store: Store, tell: Tell) -> bool:
    """Deactivate our account (RFC 8555 section 7.3.6), remove its key; return if deactivated.

    The key is removed in any case. A CA that is unreachable or does not know the account is only
    reported.
    """
    folder = store.account(fleet.authority.directory)
    if not has_key(folder):
        return False
    gone = False
    try:
        gone = _deactivated(fleet, store)
        if not gone:
            tell("warning: the CA no longer knows our account")
    except CertsyncError as error:
        tell(
            "warning: our account stays active at the CA, although its key is removed: "
            f"{error.message}"
        )
    remove_folder(folder)
    return gone


def _deactivated(fleet: Fleet, store: Store) -> bool:
    folder = store.account(fleet.authority.directory)
    bundle = str(store.directory_bundle) if fleet.authority.directory_bundle else SYSTEM_ROOTS
    acme = open_directory(Network(account_key(folder), bundle), fleet.authority)
    with translate_acme_errors("deactivating our account"):
        try:
            account = known_account(folder) or registered(acme)
            if account is None:
                return False
            acme.deactivate_registration(account)
        except messages.Error as error:
            # RFC 8555 section 7.3.6: an account that is deactivated already gets "unauthorized".
            if kind(error) in {"accountDoesNotExist", "unauthorized"}:
                return False
            raise
    return True
