"""The files of one cache folder: arrays and small values, as they are and mapped, or sealed and opened into memory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.anonymise.vault import open_bytes, seal_bytes


class Shelf:
    """The files of a cache folder, by name. `key`: 32 bytes that seal them; None: they are written as they are.

    Raises, when read: SealError for a file that was changed or is of another key.
    """

    def __init__(self, folder: Path, key: bytes | None) -> None:
        self._folder, self._key = folder, key

    def put_array(self, name: str, array: NDArray[Any]) -> None:
        if self._key is None:
            np.save(self._folder / name, array)
            return
        stream = io.BytesIO()
        np.save(stream, array)
        (self._folder / name).write_bytes(seal_bytes(stream.getvalue(), self._key, name))

    def put_value(self, name: str, value: object) -> None:
        data = json.dumps(value).encode()
        (self._folder / name).write_bytes(data if self._key is None else seal_bytes(data, self._key, name))

    def array(self, name: str, *, large: bool = False) -> NDArray[Any]:
        """An array; a `large` one is mapped where it is not sealed."""
        if self._key is None:
            found: NDArray[Any] = np.load(self._folder / name, mmap_mode="r" if large else None)
            return found
        opened: NDArray[Any] = np.load(io.BytesIO(self._opened(name, self._key)), allow_pickle=False)
        return opened

    def value(self, name: str) -> Any:
        data = (self._folder / name).read_bytes() if self._key is None else self._opened(name, self._key)
        return json.loads(data)

    def _opened(self, name: str, key: bytes) -> bytes:
        return open_bytes((self._folder / name).read_bytes(), key, name)
