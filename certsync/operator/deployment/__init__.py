"""Runs of pyinfra over a fleet: planned, executed, and reported."""
