"""Runs of pyinfra over a fleet: planned, carried out, and reported."""
