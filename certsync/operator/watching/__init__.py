"""A fleet seen from outside."""
