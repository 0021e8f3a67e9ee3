"""pyinfra deploys: what each role's host should be. Run `site.py`; the others are its parts.

pyinfra runs `site.py` once for each host before any operation, so nothing that a run itself makes
is read there: only inside operations, which are evaluated one after the other as they execute.
"""
