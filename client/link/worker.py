"""The process in which a site's app runs: started by the daemon, one request after the other, nothing else.

It reads one line of JSON a request on standard input and writes one a result on its standard output; payloads are
files in the case's folder. When standard input ends, the daemon is gone: the process ends at once, whatever it is at.
Whatever the app or its libraries print goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, cast

from flwr.app import Array, Context, RecordDict
from flwr.clientapp import ClientApp

from client.link.desk import note_answer
from learning.storage import NO_ROOM
from privacy import errors
from privacy.errors import CloisterError, place_of
from privacy.positioned import drop_cached
from protocol.held import SealedFile, Write
from protocol.link.flower import LINK_RUN, node_of, request_message
from protocol.link.logs import log, log_to_stderr
from protocol.link.parts import (
    Payload,
    PayloadWriter,
    answer_name,
    check_room,
    part_of,
    publish,
    write_payload,
)
from protocol.link.terms import Failure
from protocol.payload import sealed_array

SITE_APP = "client.link.worker:site_app"
ORPHAN = 3
"""Exit code when the daemon went away."""

MakeApp = Callable[[Path], ClientApp]
_FAILURES: dict[type[CloisterError], Failure] = {
    errors.SealError: Failure.SEAL,
    errors.ProtocolError: Failure.PROTOCOL,
    errors.ConfigError: Failure.CONFIG,
    errors.DiskError: Failure.DISK,
}


def site_app(home: Path) -> ClientApp:
    """The product's app for the site in `home`; the folder is opened anew for every message."""
    from client.app import make_client_app
    from client.site import open_site

    return make_client_app(lambda _context: open_site(home))


def main(argv: list[str] | None = None) -> int:
    """Serve requests until standard input ends."""
    parser = argparse.ArgumentParser(prog="client.link.worker")
    parser.add_argument("--home", type=Path, required=True, help="the site's folder")
    parser.add_argument("--site", required=True, help="the site's id")
    parser.add_argument("--app", default=SITE_APP, help="module:function that makes the app from the folder")
    arguments = parser.parse_args(argv)
    results = _take_stdout()
    log_to_stderr()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    orders: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    app: ClientApp | None = None
    while True:
        order = orders.get()
        try:
            app = app or _load(arguments.app)(arguments.home)
            failure = _answer(app, arguments.site, order)
        except Exception as error:  # noqa: BLE001 (reported as a failure; its text may hold a record and stays unsaid)
            failure = _failure(error)
            log("work failed", {"failure": failure.name.lower(), "at": _where(error)}, logging.ERROR)
        results.write(json.dumps({"task": order["task"], "failure": failure}) + "\n")
        results.flush()


def _answer(app: ClientApp, site: str, order: dict[str, str]) -> Failure | None:
    folder, task, node = Path(order["folder"]), order["task"], node_of(site)
    context = Context(run_id=LINK_RUN, node_id=node, node_config={}, state=RecordDict(), run_config={})
    answer = _Answer(folder / "answer", answer_name(task), folder / "request")
    request = SealedFile(folder / "request", keep=answer.keep)
    reply = app(request_message(request, task=task, node=node, kind=order["kind"]), context)
    if reply.has_error():
        return Failure.RAISED
    note_answer(folder, answer.published(sealed_array(reply.content)))
    return None


class _Answer:
    """The answer to a request: sealed into a file by the app, or bytes that it gives back."""

    def __init__(self, path: Path, name: str, request: Path) -> None:
        self._path, self._name, self._request = path, name, request
        self._kept: Payload | None = None

    def keep(self, size: int, write: Write) -> SealedFile:
        """Have the answer written to its file; it is not the answer before `published` says so.

        The request was read by then, and the kernel's copy of it leaves its memory to the answer's.
        """
        check_room(self._path.parent, size)
        with self._request.open("rb") as read:
            drop_cached(read.fileno())
        with PayloadWriter(self._path, self._name) as writer:
            write(writer)
            self._kept = writer.finish()
        return SealedFile(part_of(self._path))

    def published(self, sealed: Array) -> Payload:
        """Size and digest of what the app gave back, which lies whole and on disk under its name now."""
        if isinstance(sealed, SealedFile) and self._kept is not None and sealed.path == part_of(self._path):
            publish(sealed.path, self._path)
            return self._kept
        return write_payload(self._path, sealed.data, self._name)


def _failure(error: Exception) -> Failure:
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Failure.DISK
    return next((_FAILURES[kind] for kind in type(error).__mro__ if kind in _FAILURES), Failure.RAISED)


def _load(name: str) -> MakeApp:
    module, _, function = name.partition(":")
    return cast(MakeApp, getattr(importlib.import_module(module), function))


def _take_stdout() -> TextIO:
    """Our own handle on standard output; whoever else prints writes to standard error from now on."""
    mine = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return mine


def _listen(orders: queue.SimpleQueue[dict[str, str]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    if os.getpgrp() == os.getpid():  # what the app has started goes with it
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(ORPHAN)


def _where(error: BaseException) -> str:
    """Type and places of an error, with its text where it is ours."""
    text = f"{error}: " if isinstance(error, CloisterError) else ""
    return f"{text}{place_of(error)}"


if __name__ == "__main__":
    sys.exit(main())
