"""The one release of a site that may be asked for again: its secret on disk, from its charge until it is over.

state/release         sealed with a key of the site (0600): the secret, what it is bound to, what came of it
state/release.lock    held while it is read and replaced

There is one file, so there is at most one secret at rest. It is over when another release begins, or when secure
aggregation has named the survivors of the sum that holds it; from then on the same round is drawn afresh and charged
again. The rules are in `privacy.dp.release`; here is only the storing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.ledger_files import sync_folder
from learning.locks import waited_for
from learning.storage import make_private_dir, write_private
from privacy.anonymise.vault import open_bytes, seal_bytes
from privacy.content_hash import content_hash
from privacy.dp.release import Release
from privacy.errors import BudgetError, CloisterError, DataError

RELEASE_FILE = "release"
LOCK_FILE = "release.lock"
RELEASE_PURPOSE = "release"
"""Of the site's subkey that the file is sealed with."""


class OpenRelease:
    """The file of a site's release. `key`: 32 bytes that seal it.

    Guarantees: what `keep` wrote is there after a crash, whole, or the one before it is. Edge cases: no file, a file
    that was changed or is another site's (it counts as none: the round is then drawn afresh, and charged).
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        self._folder, self._key = folder, key
        self._path = folder / RELEASE_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes the release in here."""
        with waited_for(make_private_dir(self._folder) / LOCK_FILE):
            yield

    def read(self) -> Release | None:
        """The release, or None where there is none that this site wrote."""
        with suppress(OSError, CloisterError):
            return Release.from_bytes(open_bytes(self._path.read_bytes(), self._key, RELEASE_FILE))
        return None

    def keep(self, release: Release) -> None:
        """Put a release in the place of the one before, whose secret is gone then; on disk when this returns."""
        write_private(self._path, seal_bytes(release.to_bytes(), self._key, RELEASE_FILE))

    def forget(self) -> None:
        """The release is over: its secret is removed, and the same round is drawn afresh from now on."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._folder)

    def over(self, run: str, number: int) -> None:
        """Forget the release of that round, where it is the open one."""
        with self.locked():
            now = self.read()
            if now is not None and (now.request.run, now.request.round) == (run, number):
                self.forget()

    def finish(self, release: Release, outcome: str) -> None:
        """Store what came of a release, before it is handed on.

        Raises: BudgetError where the release is no longer the site's open one, or was finished otherwise; nothing may
        leave then, and one that was finished otherwise is forgotten.
        """
        with self.locked():
            now = self.read()
            if now is None or (now.secret, now.data) != (release.secret, release.data):
                raise BudgetError(
                    f"the release of round {release.request.round}",
                    expected="to be the one that is open",
                    found="another one, begun meanwhile",
                    remedy="what was computed stays here",
                )
            try:
                self.keep(now.finished(outcome))
            except BudgetError:
                self.forget()
                raise


def arrays_digest(arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """The content hash in hexadecimal of arrays by name, type, shape and bytes, in the order of their names."""
    digest = content_hash(b"cloister/v2/arrays\x00")
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        head = json.dumps([name, value.dtype.str, list(value.shape)]).encode()
        digest.update(len(head).to_bytes(8, "big") + head)
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def examples_digest(examples: object) -> str:
    """The digest of everything that examples hold: every field of theirs, arrays by their bytes.

    Raises: DataError for a field that is neither an array nor a plain value: it would not be bound.
    """
    if not is_dataclass(examples) or isinstance(examples, type):
        raise DataError("the examples", expected="a dataclass of arrays", found=type(examples).__name__)
    arrays: dict[str, NDArray[np.float32]] = {}
    plain: dict[str, int | float | str | None] = {}
    for item in fields(examples):
        value = getattr(examples, item.name)
        if isinstance(value, np.ndarray):
            arrays[item.name] = value
        elif value is None or isinstance(value, int | float | str):
            plain[item.name] = value
        else:
            raise DataError(f"the examples' {item.name}", expected="an array", found=type(value).__name__)
    head = json.dumps([type(examples).__name__, plain], sort_keys=True)
    return hashlib.sha256(f"{head}\x00{arrays_digest(arrays)}".encode()).hexdigest()
