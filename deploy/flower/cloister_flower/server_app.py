"""The coordinator, as it is installed on the SuperLink's machine."""

from server.flower_app import app

__all__ = ["app"]
