"""Structured logs of both ends: one JSON object a line on standard error. Names, states, sizes; never content."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping

LOGGER = logging.getLogger("cloister.link")


class JsonLines(logging.Formatter):
    """Time (UTC), level, event and fields of a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        extra = getattr(record, "fields", {})
        return json.dumps({**fields, **extra}, ensure_ascii=True, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write this process's link logs to standard error, once."""
    if not LOGGER.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    LOGGER.propagate = False


def log(event: str, fields: Mapping[str, object], level: int = logging.INFO) -> None:
    """Note an event with its fields."""
    LOGGER.log(level, event, extra={"fields": dict(fields)})
