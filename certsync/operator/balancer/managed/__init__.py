"""Load balancers that a provider runs: read and changed by its API, behind one port."""
