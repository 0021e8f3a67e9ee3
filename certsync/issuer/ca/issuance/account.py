"""Our account at a CA: registered once, kept on the issuer, used for every order."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import josepy
from acme import errors, messages
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.ca import registration
from certsync.issuer.ca.issuance.binding import Binding
from certsync.issuer.ca.issuance.client import Client
from certsync.issuer.ca.issuance.clock import clock_finding, unverified_date
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.issuance.problem import NO_ACME, kind, refusal, translate_acme_errors
from certsync.model import certificate
from certsync.model.errors import CaError, CaSilentError, StoreError
from certsync.model.fleet import Authority
from certsync.system.files import write_whole


class AccountEndedError(CaError):
    """The CA has ended our account: its key can order nothing any more."""


def account_key(folder: Path) -> josepy.JWKEC:
    """Return the account's key; create it if there is none.

    It is written before it is used, so that no account at the CA has a lost key. An unreadable key,
    or one of another type, is moved aside: a new account is better than none.
    """
    path = folder / registration.KEY
    found = _kept_key(path)
    if found is None:
        found = ec.generate_private_key(ec.SECP256R1())
        write_whole(path, certificate.key_pem(found), mode=0o600)
    return josepy.JWKEC(key=found)


def _kept_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    if not path.exists():
        return None
    try:
        key = certificate.load_key(path.read_bytes())
    except StoreError:
        key = None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == ec.SECP256R1.name:
        return key
    path.replace(path.with_suffix(".pem.broken"))
    return None


def has_key(folder: Path) -> bool:
    """Return whether an account's key exists, whatever the CA knows about it."""
    return (folder / "key.pem").exists()


def known_account(folder: Path) -> messages.RegistrationResource | None:
    """Return our account as saved at registration; None: there is none.

    A registration that is unreadable or belongs to another key is ignored.
    """
    found = registration.read(folder)
    try:
        return messages.RegistrationResource.from_json(found) if found else None
    except (josepy.errors.Error, *NO_ACME):
        return None


def _write(folder: Path, account: messages.RegistrationResource) -> None:
    data = {**account.to_json(), registration.KEY_SUM: registration.key_sum(folder)}
    write_whole(folder / registration.REGISTRATION, json.dumps(data, indent=1).encode(), mode=0o600)


def open_directory(network: Network, authority: Authority) -> Client:
    """Return a client with the CA's directory, without an account yet.

    Raises:
        CaError: the CA cannot be reached.
        ClockError: the CA's certificate looks expired or not yet valid because our clock is wrong.
    """
    try:
        with translate_acme_errors("asking for its directory"):
            directory = Client.get_directory(authority.directory, network)
    except CaSilentError as error:
        if "expired" in error.message or "not yet valid" in error.message:
            clock_finding(unverified_date(authority.directory), datetime.now(timezone.utc))
        raise
    return Client(directory, network)


def log_in(acme: Client, authority: Authority, folder: Path, binding: Binding | None) -> str:
    """Use our account, registering it first if necessary; return its URL.

    Raises:
        AccountEndedError: the CA has ended the account of our key.
        CaError: the CA refuses.
    """
    known = known_account(folder)
    if known is not None:
        acme.net.account = known
        return str(known.uri)
    registration.put_broken_aside(folder)
    account = registered(acme) or _registered_anew(acme, authority, binding)
    _write(folder, account)
    return str(account.uri)


def registered(acme: Client) -> messages.RegistrationResource | None:
    """Return the CA's account for our key (RFC 8555 section 7.3.1); None: there is none.

    Raises:
        CaError: the CA refuses, or cannot be reached.
    """
    with translate_acme_errors("looking for our account"):
        try:
            return acme.new_account(messages.NewRegistration(only_return_existing=True))
        except errors.ConflictError as known:
            account = messages.RegistrationResource(
                body=messages.Registration(), uri=known.location
            )
            return acme.query_registration(account)
        except messages.Error as error:
            if kind(error) == "unauthorized":
                # RFC 8555 section 7.3.6: our key has an account, and it was deactivated.
                found = refusal(error, "looking for our account")
                raise AccountEndedError(found.message, "", "unauthorized") from None
            if kind(error) != "accountDoesNotExist":
                raise
    return None


def has_ended(acme: Client, account: messages.RegistrationResource) -> bool:
    """Return whether our account is deactivated or revoked (RFC 8555 section 7.1.6).

    A CA refuses everything by such an account with "unauthorized" (section 7.3.6), but that may
    have other reasons, too.
    """
    try:
        with translate_acme_errors("looking at our account"):
            found = acme.query_registration(account)
    except CaError as error:
        return error.problem == "unauthorized"
    return str(found.body.status or "") in ("deactivated", "revoked")


def _registered_anew(
    acme: Client, authority: Authority, binding: Binding | None
) -> messages.RegistrationResource:
    if binding is None and acme.directory["meta"].external_account_required:
        raise CaError(
            "this CA requires an external account binding",
            "get a key identifier and an HMAC key from the CA and set ca.eab_key_id",
        )
    with translate_acme_errors("registering an account"):
        return _register(acme, authority.contact, binding)


def _register(acme: Client, contact: str, binding: Binding | None) -> messages.RegistrationResource:
    bound = None
    if binding is not None and acme.net.key is not None:
        bound = messages.ExternalAccountBinding.from_data(
            acme.net.key.public_key(), binding.key_id, binding.hmac_key, acme.directory
        )
    wanted = messages.NewRegistration.from_data(
        email=contact or None, terms_of_service_agreed=True, external_account_binding=bound
    )
    return acme.new_account(wanted)
