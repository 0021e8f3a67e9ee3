"""How a fleet looks from outside."""
