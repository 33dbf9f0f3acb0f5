"""A folder as one file for the way: an archive of plain files, and what may come out of one again.

A site unpacks what a coordinator made, so nothing of an archive is taken on trust: only regular files under names that
are expected, each once, none larger than what was announced.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

from privacy.errors import ProtocolError

_NAME = re.compile(r"(model/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KINDS = frozenset({".json", ".txt", ".md", ".html", ".safetensors", ".model"})
"""Files that hold data and no code: a pickle would run when it is read."""
MOST_FILES = 100


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder, and of its folder `model`, as a tar file: the same files give the same bytes.

    Raises: ProtocolError for a file that `unpack` would not take.
    """
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_dir():
                continue
            name = path.relative_to(folder).as_posix()
            _check(name)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o600
            with path.open("rb") as stream:
                tar.addfile(entry, stream)


def unpack(archive: Path, folder: Path) -> None:
    """Write an archive's files into a folder that is empty. Raises: ProtocolError for anything but what `pack` writes;
    delete the folder then.
    """
    seen: set[str] = set()
    try:
        with tarfile.open(archive, "r:") as tar:
            while (entry := tar.next()) is not None:
                _check(entry.name)
                source = tar.extractfile(entry) if entry.isreg() else None
                if source is None or entry.name in seen or len(seen) >= MOST_FILES:
                    raise _refused()
                seen.add(entry.name)
                target = folder / entry.name
                target.parent.mkdir(exist_ok=True)
                with target.open("xb") as stream:
                    shutil.copyfileobj(source, stream, 1 << 20)
    except (tarfile.TarError, EOFError):
        raise _refused() from None


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or Path(name).suffix not in _KINDS:
        raise _refused()


def _refused() -> ProtocolError:
    return ProtocolError("an archive", expected="the files of a run, each once", found="something else")
