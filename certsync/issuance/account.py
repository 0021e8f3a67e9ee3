"""Our registration at a CA: made once, kept on the issuer, used for every order."""

from __future__ import annotations

import json
from pathlib import Path

import josepy
from acme import client, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec

from certsync import certificate
from certsync.errors import StoreError
from certsync.fleet import Authority, KeyType
from certsync.issuance.network import Network
from certsync.issuance.problem import told
from certsync.store import write_whole


def account_key(folder: Path) -> josepy.JWKEC:
    """Return the account's key, making it first if there is none.

    It is written before it is used, so that an account at the CA never has a key that is lost.
    """
    path = folder / "key.pem"
    if path.exists():
        key = certificate.load_key(path.read_bytes())
    else:
        key = certificate.make_key(KeyType.ECDSA_P256)
        write_whole(path, certificate.key_pem(key), mode=0o600)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StoreError(f"{path} is no ECDSA key", "put the right one back, or remove the folder")
    return josepy.JWKEC(key=key)


def log_in(network: Network, authority: Authority, folder: Path) -> client.ClientV2:
    """Return a client with our account, which is registered first if the CA does not know it.

    Raises:
        CaError: the CA refuses, or cannot be reached.
    """
    with told("asking for its directory"):
        directory = client.ClientV2.get_directory(authority.directory, network)
    acme = client.ClientV2(directory, network)
    path = folder / "account.json"
    if path.exists():
        network.account = messages.RegistrationResource.from_json(json.loads(path.read_text()))
        return acme
    with told("registering an account"):
        account = _register(acme, authority.contact)
    write_whole(path, json.dumps(account.to_json(), indent=1).encode(), mode=0o600)
    return acme


def _register(acme: client.ClientV2, contact: str) -> messages.RegistrationResource:
    registration = messages.NewRegistration.from_data(
        email=contact or None, terms_of_service_agreed=True
    )
    try:
        return acme.new_account(registration)
    except errors.ConflictError as known:
        # A run was cut off between registering and writing it down: the key is the proof.
        account = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
        return acme.query_registration(account)
