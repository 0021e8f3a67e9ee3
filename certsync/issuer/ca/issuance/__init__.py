"""Talking to the CA: the only place that uses the `acme` and `josepy` libraries.

`obtain` orders one certificate: it logs into the account, resumes or places an order, answers its
challenges through the webroot, finalizes, and returns key and certificate. `revoke` revokes one;
`register` and `give_up_account` create and deactivate the account.
"""

from certsync.issuer.ca.issuance.obtain import (
    Issued,
    forget,
    forget_if_kept,
    obtain,
    pending_key_sum,
    register,
)
from certsync.issuer.ca.issuance.request import Request
from certsync.issuer.ca.issuance.revoke import revoke
from certsync.issuer.ca.issuance.role import give_up_account, has_account, is_registered

__all__ = [
    "Issued",
    "Request",
    "forget",
    "forget_if_kept",
    "give_up_account",
    "has_account",
    "is_registered",
    "obtain",
    "pending_key_sum",
    "register",
    "revoke",
]  # fmt: skip
