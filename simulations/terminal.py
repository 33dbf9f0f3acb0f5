"""What a person sees of a running simulation: a bar a site, a line a round; plain lines without a terminal.

Everything goes to standard error. The bars show steps of the plan, which are public; they show nothing of a record.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from server.record import Event, EventKind

POLL_S = 0.25
MOST_BARS = 16
"""With more sites than this a terminal has no room for a bar each: the rounds are shown alone."""


class RunDisplay:
    """Shows one federated run; `homes`: the folder of each site, in which it leaves notes of its progress."""

    def __init__(self, title: str, homes: Mapping[str, Path], rounds: int) -> None:
        self._console = Console(stderr=True)
        self._title, self._rounds = title, rounds
        self._homes = homes if len(homes) <= MOST_BARS else {}
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn("[bold]{task.description:<10}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        self.line(f"{self._title}: {self._rounds} rounds")
        if self._live:
            for site in self._homes:
                self._tasks[site] = self._progress.add_task(site, total=1, note="waiting")
            self._progress.start()
            self._poller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._live:
            self._poller.join(timeout=2)
            self._progress.stop()

    def line(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, highlight=False, markup=False)

    def watch(self, event: Event) -> None:
        """Show an event of the run."""
        match event.kind:
            case EventKind.STAGE:
                self.line(f"  {event.text}")
            case EventKind.MEASURED:
                self.line(f"  round {event.round}/{self._rounds}: {event.text}")
            case EventKind.DROPPED | EventKind.DECLINED:
                self.line(f"  {event.site} is out: {event.text}")
            case EventKind.ASKED:
                self._note(event.site, f"round {event.round}/{self._rounds}: asked", done=0)
            case EventKind.REPLIED:
                self._note(event.site, f"round {event.round}/{self._rounds}: done", done=1)
            case EventKind.GREETED | EventKind.ROUND:
                pass

    def _note(self, site: str, text: str, *, done: float) -> None:
        if site in self._tasks:
            self._progress.update(self._tasks[site], completed=done, note=text)

    def _poll(self) -> None:
        """Read the notes that the sites leave."""
        shown: dict[str, str] = {}
        while not self._stop.wait(POLL_S):
            for site, home in self._homes.items():
                try:
                    text = (home / "state" / "progress.json").read_text(encoding="utf-8")
                except OSError:
                    continue
                if shown.get(site) != text:
                    shown[site] = text
                    note = json.loads(text)
                    label = f"round {note['round']}/{self._rounds}: {note['stage']} {note['done']}/{note['total']}"
                    self._note(site, label, done=note["done"] / max(1, note["total"]))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output: the result, for a person."""
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(file=sys.stdout).print(table)
