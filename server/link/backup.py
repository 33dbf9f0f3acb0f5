"""A coordinator's folder as one file, taken while its server runs, and the folder that is made from it again.

In it: keys, authority, roster, settings, event log, runs with what they left and how far they are, the link's table.
Not in it: the sealed messages that are under way (a run that is taken up again asks anew), and the held-out data, which
`coordinator.toml` names.

Databases are copied by SQLite's own backup; of a run whose account moved while it was copied another copy is taken; a
log that grew is cut at its last whole line. A restored coordinator is older than its sites remember. Its runs go on
under numbers, and its roster under an epoch, that no site has seen: whatever else the lost time held is refused there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from learning.storage import PRIVATE_FILE, write_dir, write_json, write_private
from privacy.errors import ConfigError, SealError
from protocol.eventlog import EventLog
from server.coordinator import KEYS_DIR, ROSTER_FILE, SETTINGS_FILE, open_coordinator, read_epoch
from server.link.authority import AUTHORITY_DIR, DATABASE_FILE, KEY_FILE
from server.link.membership import EVENTS_FILE, OPERATOR, open_trust
from server.link.runs import RUNS_DIR, RunState, RunStatus
from server.link.serve import LINK_DIR
from server.link.store import DATABASE
from server.prekeys import SECRET_FILE

MANIFEST, FORMAT = "backup.json", 1
ATTEMPTS = 20
APART = 100
"""How far a restored coordinator's numbers are set on: more than the lost time can have used."""
_LINK = f"{LINK_DIR}/{DATABASE}"
_AUTHORITY = f"{AUTHORITY_DIR}/{DATABASE_FILE}"
_PLAIN = (SETTINGS_FILE, ROSTER_FILE, f"{EVENTS_FILE}.head", EVENTS_FILE, f"{AUTHORITY_DIR}/{KEY_FILE}")
"""The log's head before the log: it may say less than the log holds, never more."""
_STATUS, _STOP, _MOVES = "status.json", "stop", ("status.json", "work/worker/progress.json")


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a backup says of itself. `made`: seconds since 1970; `files`: SHA-256 in hex by name."""

    made: float
    files: dict[str, str]

    def values(self) -> dict[str, object]:
        return {"format": FORMAT, "made": self.made, "files": self.files}


def back_up(home: Path, out: Path, clock: Callable[[], float] = time.time) -> Backup:
    """Write a backup, whole or not at all, for its owner alone (0600). It holds private keys.

    Raises: ConfigError when the folder is no coordinator's, or the file is there already; OSError for want of room.
    """
    trust = open_trust(home, clock)
    trust.authority.close()
    if out.exists() or not out.parent.is_dir():
        found = "one that is" if out.exists() else "no folder for it"
        raise ConfigError(f"{out}", expected="a file that is not there yet", found=found)
    trust.log.append(OPERATOR, "coordinator.backup", out.name)
    stage = Path(tempfile.mkdtemp(dir=home, prefix=".backup."))
    try:
        _stage(home, stage)
        names = [path.relative_to(stage).as_posix() for path in sorted(stage.rglob("*")) if path.is_file()]
        backup = Backup(made=clock(), files={name: _sha256(stage / name) for name in names})
        write_json(stage / MANIFEST, backup.values())
        _write(stage, [MANIFEST, *names], out)
    finally:
        shutil.rmtree(stage)
    return backup


def restore(file: Path, home: Path, clock: Callable[[], float] = time.time) -> Backup:
    """Make a coordinator's folder from a backup: it is there whole when this returns, or not at all.

    Raises: ConfigError when the folder is there already, or the file is no backup; SealError when a part of it changed.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(f"{home}", expected="a folder that is empty or not there yet", found="one with files")
    if home.exists():
        home.rmdir()
    found: list[Backup] = []

    def fill(target: Path) -> None:
        found.append(_unpacked(file, target))
        _set_on(target, found[0], clock)

    write_dir(home, fill)
    return found[0]


def _stage(home: Path, stage: Path) -> None:
    """All files as they are at one moment, as far as they belong together."""
    with closing(sqlite3.connect(home / _AUTHORITY, isolation_level=None)) as authority:
        authority.execute("BEGIN IMMEDIATE")  # nobody is let in meanwhile
        for name in _PLAIN:
            _copy(home / name, stage / name)
        for path in (home / KEYS_DIR).iterdir():
            _copy(path, stage / KEYS_DIR / path.name)
        _copy_database(home, stage, _AUTHORITY)
    _copy_database(home, stage, _LINK)
    for run in sorted((home / RUNS_DIR).glob(f"*/{_STATUS}")):
        _stage_run(run.parent, stage / RUNS_DIR / run.parent.name)


def _stage_run(run: Path, target: Path) -> None:
    """A run's folder. Raises: ConfigError when it never stood still for the time of a copy."""
    for _attempt in range(ATTEMPTS):
        before = [_sha256(run / name) for name in _MOVES]
        try:
            for path in sorted(run.rglob("*")):
                inside = path.relative_to(run)
                whole = not any(part.startswith(".") for part in inside.parts)
                if path.is_file() and whole and path.name != SECRET_FILE:  # what is asked anew needs no old prekeys
                    _copy(path, target / inside)
        except FileNotFoundError:
            before = []
        if before == [_sha256(run / name) for name in _MOVES]:
            return
        shutil.rmtree(target, ignore_errors=True)
    raise ConfigError(
        f"run {run.name}", expected="one that can be copied", found="one that moves on", remedy="try again"
    )


def _copy(source: Path, target: Path) -> None:
    """A copy; files are replaced and never written over, so that another name for the same bytes is one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name == EVENTS_FILE:  # but for logs, which grow
        data = source.read_bytes()
        target.write_bytes(data[: data.rfind(b"\n") + 1])
        return
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _copy_database(home: Path, stage: Path, name: str) -> None:
    if not (home / name).exists():  # a server has never run here
        return
    (stage / name).parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / name)) as source, closing(sqlite3.connect(stage / name)) as target:
        source.backup(target)


def _write(stage: Path, names: list[str], out: Path) -> None:
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for each in names:
                    entry = tarfile.TarInfo(each)
                    entry.size, entry.mode = (stage / each).stat().st_size, PRIVATE_FILE
                    with (stage / each).open("rb") as source:
                        tar.addfile(entry, source)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unpacked(file: Path, target: Path) -> Backup:
    try:
        with tarfile.open(file, "r:") as tar:
            backup = _manifest(file, tar)
            seen = set(_extract(file, tar, target, backup))
    except (OSError, tarfile.TarError):
        raise ConfigError(f"{file}", expected="a backup of a coordinator", found="something else") from None
    if missing := sorted(set(backup.files) - seen):
        raise SealError(f"{file}", expected="every file of the backup", found=f"none of the name {missing[0]}")
    return backup


def _manifest(file: Path, tar: tarfile.TarFile) -> Backup:
    entry = tar.next()
    stream = tar.extractfile(entry) if entry is not None and entry.name == MANIFEST else None
    try:
        values = json.loads(stream.read()) if stream is not None else {}
        if values["format"] != FORMAT:
            raise ValueError
        return Backup(made=float(values["made"]), files={str(k): str(v) for k, v in values["files"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{file}", expected=f"a backup of format {FORMAT}", found="something else") from None


def _extract(file: Path, tar: tarfile.TarFile, target: Path, backup: Backup) -> Iterator[str]:
    while (entry := tar.next()) is not None:
        path = target / entry.name
        source = tar.extractfile(entry) if entry.isreg() and entry.name in backup.files else None
        if source is None or not path.resolve().is_relative_to(target.resolve()):
            raise SealError(f"{file}", expected="the files that it names", found="another one")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
        path.chmod(PRIVATE_FILE)
        if _sha256(path) != backup.files[entry.name]:
            raise SealError(f"{file}: {entry.name}", expected="the bytes that were backed up", found="others")
        yield entry.name


def _set_on(home: Path, backup: Backup, clock: Callable[[], float]) -> None:
    """Set numbers on beyond the lost time, and say in the event log that this was done."""
    roster = home / ROSTER_FILE
    epoch = read_epoch(home) + APART
    text = re.sub(r"(?m)^epoch = \d+$", f"epoch = {epoch}", roster.read_text(encoding="utf-8"), count=1)
    write_private(roster, text.encode())
    for path in sorted((home / RUNS_DIR).glob(f"*/{_STATUS}")):
        status = RunStatus.of(path)
        (path.parent / _STOP).unlink(missing_ok=True)  # resumed, it asks anew: what it had asked is not here
        if not status.state.over:
            why = f"restored from the backup of {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(backup.made))}"
            status = replace(status, state=RunState.STOPPED, error=why, ended=clock())
        write_json(path, replace(status, afresh=status.afresh + APART).values())
    identity = open_coordinator(home).identity
    details = {"made": int(backup.made), "roster_epoch": epoch}
    EventLog(home / EVENTS_FILE, identity, clock=clock).append(OPERATOR, "coordinator.restore", "", details)


def _sha256(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
