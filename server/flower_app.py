"""The coordinator on a stock Flower SuperLink: the ServerApp that `flwr run` starts there.

The run config names a job file, a coordinator's folder and a folder for the results, all on the machine of the
SuperLink. A run that stops early raises its error after its folder is written, so that Flower too counts it as failed.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from privacy.errors import ConfigError
from protocol.job import read_job
from server.coordinator import open_coordinator
from server.record import Event, EventKind
from server.run import RunRequest, run_coordinator

JOB, COORDINATOR, OUT = "job", "coordinator-dir", "out"
NODES, WINDOW, TIMEOUT_S = "nodes", "window", "timeout-s"

_LOG = logging.getLogger("cloister.coordinator")
_SHOWN = frozenset(set(EventKind) - {EventKind.ASKED, EventKind.REPLIED})

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job that the run config names. Raises: CloisterError, for Flower to show and to count as a failure."""
    values = context.run_config
    _log_to_stderr()
    coordinator = open_coordinator(_path(values, COORDINATOR))
    request = RunRequest(
        job=read_job(_path(values, JOB)),
        out=_path(values, OUT),
        nodes=int(_number(values, NODES)),
        window=int(_number(values, WINDOW)),
        timeout_s=_number(values, TIMEOUT_S),
    )
    run_coordinator(grid, coordinator, request, _watch)


def _watch(event: Event) -> None:
    if event.kind in _SHOWN:
        words = (f"round {event.round}" if event.round else "", event.site, event.text)
        _LOG.info("%s: %s", event.kind.value, ", ".join(word for word in words if word))


def _log_to_stderr() -> None:
    """Flower streams what a ServerApp writes to its standard streams; its own logger is kept to errors."""
    if not _LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False


def _path(values: object, key: str) -> Path:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, str) or not value or not Path(value).is_absolute():
        raise ConfigError(
            f"run config: {key}",
            expected="an absolute path on the SuperLink's machine",
            found=repr(value),
            remedy=f"flwr run ... --run-config '{key}=\"/path\"'",
        )
    return Path(value)


def _number(values: object, key: str) -> float:
    value = values.get(key) if isinstance(values, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"run config: {key}", expected="a number", found=repr(value))
    return float(value)
