"""pyinfra deploys: the desired state of each role's hosts. Run `site.py`; the others are its parts.

pyinfra runs `site.py` once per host before any operation, so results of the run are not available
there, only inside operations, which are evaluated one by one as they execute.
"""
