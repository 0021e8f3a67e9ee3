"""Dealing with the CA."""
