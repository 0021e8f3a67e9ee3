"""Talking to the CA: the only place that knows the `acme` and `josepy` libraries.

Control flow: `obtain` orders one certificate. It logs into the account, resumes or places an
order, answers its challenges through the webroot, finalizes, and returns key and certificate.
"""

from certsync.issuance.obtain import Issued, forget, forget_if_kept, obtain

__all__ = ["Issued", "forget", "forget_if_kept", "obtain"]
