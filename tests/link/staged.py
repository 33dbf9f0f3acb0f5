"""The product's app, stopped at the end of each stage of a round until a test has seen what the coordinator was told.

A text of more than `LONGEST_TEXT` characters is withheld here, so that a site has some.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from flwr.clientapp import ClientApp

import client.data
from client.link.worker import site_app
from client.site import Site
from privacy.anonymise import Anonymiser, Limits
from tests.link.world import DEADLINE_S

LONGEST_TEXT = 100
STAGES = ("anonymise", "tokenise", "encode", "train")


def make_app(home: Path) -> ClientApp:
    client.data.Anonymiser = partial(Anonymiser, limits=Limits(max_chars=LONGEST_TEXT))  # type: ignore[misc, assignment]
    noted = Site.progress

    def progress(site: Site, round_number: int, stage: str, done: int, total: int) -> None:
        noted(site, round_number, stage, done, total)
        with (home / "noted").open("a") as notes:
            notes.write(f"{stage} {done} {total}\n")
        end = time.monotonic() + DEADLINE_S
        while done == total and not (home / f"seen-{stage}").exists() and time.monotonic() < end:
            time.sleep(0.02)

    Site.progress = progress  # type: ignore[method-assign]
    return site_app(home)
