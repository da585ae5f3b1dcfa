"""Who things belong to."""

DEFAULT_OWNER = "local"
"""Owns what is made while authentication is off, and what was made before there were owners."""
MAX_OWNER_LENGTH = 64
