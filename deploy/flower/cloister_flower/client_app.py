"""The site, as it is installed on the SuperNode's machine."""

from client.flower_app import app

__all__ = ["app"]
