"""Revoke a certificate because its private key is compromised (RFC 8555 section 7.6)."""

from __future__ import annotations

import josepy
from acme import messages
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certsync.issuer.ca.issuance import problem
from certsync.issuer.ca.issuance.account import account_key, known_account, open_directory
from certsync.issuer.ca.issuance.client import Client
from certsync.issuer.ca.issuance.network import Network
from certsync.issuer.ca.issuance.problem import translate_acme_errors
from certsync.issuer.compromise import CompromisedKey
from certsync.issuer.store import Store
from certsync.model import certificate
from certsync.model.certificate import PrivateKey
from certsync.model.errors import CaError
from certsync.model.fleet import SYSTEM_ROOTS, Authority, Fleet

KEY_COMPROMISE = 1
"""The reason code in RFC 5280 section 5.3.1."""

NOT_BY_THIS_ONE = ("unauthorized", "accountDoesNotExist")
"""A CA's problems for an account that did not order the certificate or no longer exists."""


def revoke(exposed: CompromisedKey, fleet: Fleet, store: Store) -> bool:
    """Revoke a certificate at the CA that signed it; one that is revoked already is fine.

    The request is signed by the account that ordered it, if it is ours; else by the certificate's
    own key. Return whether it is revoked; it is not if we have neither.

    Raises:
        CaError: the CA refuses, or cannot be reached.
        CaBusyError: it says when to come back.
    """
    leaf = x509.load_pem_x509_certificate(exposed.leaf.encode())
    authority, bundle = _authority(exposed.directory, fleet, store)
    folder = store.account(exposed.directory)
    account = known_account(folder)
    if account is not None and str(account.uri) == exposed.account:
        acme = open_directory(Network(account_key(folder), bundle), authority)
        acme.net.account = account
        if _is_done(acme, leaf):
            return True
    if not exposed.key:
        return False
    key = certificate.load_key(exposed.key.encode())
    jwk, algorithm = signer(key)
    if not _is_done(open_directory(Network(jwk, bundle, algorithm), authority), leaf):
        raise CaError("the CA refuses revocation by both our account and the certificate's own key")
    return True


def _authority(directory: str, fleet: Fleet, store: Store) -> tuple[Authority, str]:
    """Return a CA and the file that verifies its HTTPS; it may be a former CA of the fleet."""
    if directory != fleet.authority.directory:
        return Authority(directory), SYSTEM_ROOTS
    bundle = fleet.authority.directory_bundle
    return fleet.authority, str(store.directory_bundle) if bundle else SYSTEM_ROOTS


def _is_done(acme: Client, leaf: x509.Certificate) -> bool:
    """Request it; return whether the requester is authorized. Other refusals are errors."""
    with translate_acme_errors("revoking a certificate"):
        try:
            acme.revoke(leaf, KEY_COMPROMISE)
        except messages.Error as error:
            if problem.kind(error) in NOT_BY_THIS_ONE:
                return False
            if problem.kind(error) != "alreadyRevoked":
                raise
    return True


def signer(key: PrivateKey) -> tuple[josepy.JWK, josepy.JWASignature]:
    """Return a certificate's key in the form that signs ACME requests, and how (RFC 7518)."""
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return josepy.JWKRSA(key=key), josepy.RS256
    small = isinstance(key.curve, ec.SECP256R1)
    return josepy.JWKEC(key=key), josepy.ES256 if small else josepy.ES384
