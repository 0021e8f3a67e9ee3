"""Configuration files as text."""
