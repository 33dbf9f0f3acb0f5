"""Encrypt and sign what crosses the wire, bound to its place in a run."""
