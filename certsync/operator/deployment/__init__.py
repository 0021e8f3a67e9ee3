"""Runs of pyinfra over a fleet, announced and told."""
