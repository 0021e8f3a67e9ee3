"""The issuer's engine in a simulated world: virtual time, and faults by a seed."""
