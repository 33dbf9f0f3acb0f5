"""A ClientApp that needs no torch: it answers with its request's bytes behind a few of its own.

Files in the site's folder say what else it does: `hold` (waits until the file is gone), `die`, `kill`, `raise`, `seal`.
Every request that it answers is a line in `calls`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from learning.storage import write_note
from privacy.errors import SealError
from privacy.sealing import peek_context
from protocol.payload import unwrap_sealed, wrap_sealed

GREETING = b"answer of "


def make_app(home: Path) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        return answer(message)

    @app.query("hello")
    def hello(message: Message, _context: Context) -> Message:
        return answer(message)

    def answer(message: Message) -> Message:
        sealed = unwrap_sealed(message.content)
        place = peek_context(sealed)
        print("an app may print")  # noqa: T201 - it must not end up among the worker's results
        with (home / "calls").open("a") as calls:
            calls.write(f"{place.run} {place.round} {place.sequence}\n")
        write_note(home / "progress.json", {"round": place.round, "stage": "train", "done": 3, "total": 4})
        while (home / "hold").exists():
            time.sleep(0.02)
        if (home / "die").exists():
            os._exit(7)
        if (home / "kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (home / "raise").exists():
            raise RuntimeError("the text of a record")
        if (home / "seal").exists():
            raise SealError("a request", expected="a new one", found="one that was answered before")
        return Message(wrap_sealed(answer_to(home.name, sealed)), reply_to=message)

    return app


def answer_to(site: str, sealed: bytes) -> bytes:
    """What the app of a site answers."""
    return GREETING + site.encode() + b" to " + sealed


def calls(home: Path) -> list[str]:
    """The requests that the app was called with: run, round, sequence."""
    path = home / "calls"
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit("a module for tests")
