"""Renders configuration files."""
