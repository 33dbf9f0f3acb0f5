"""Packaged profiles: readable TOML, one file a profile."""
