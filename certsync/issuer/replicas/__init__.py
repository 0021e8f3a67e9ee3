"""Rolling out a generation to every backend, and whether it may go live."""
