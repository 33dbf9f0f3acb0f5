"""The coordinator's side of its worker process: the model is made, measured and exported there, never here.

The coordinator itself imports no torch; what it hands over and gets back are file paths and small JSON values.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from learning.storage import make_private_dir, write_json, write_private
from privacy import errors
from privacy.errors import CloisterError, TrainingError
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import Job

State = dict[str, NDArray[np.float32]]


class Worker:
    """A worker process for one run; use it as a context manager. `folder` holds its spec and checkpoints.

    `cache`: a private folder for prepared data, shared by the runs that are given the same one; None: one in `folder`.
    """

    def __init__(self, folder: Path, job: Job, data: HeldOutData, cache: Path | None = None) -> None:
        self._folder = make_private_dir(folder)
        spec = folder / "worker.json"
        write_json(spec, {"job": job.canonical(), "data": asdict(data), "cache": str(cache or folder / "cache")})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server.evaluator", str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            process_group=0,  # Ctrl-C is for this process, which then ends its worker
        )
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; it is killed when it does not end by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def prepare(self, part: HeldOut) -> dict[str, Any]:
        """Read and hide one held-out part; returns its size and the counts of what was hidden."""
        return self._ask("prepare", part=part.value)

    def initial(self) -> State:
        """The tuned part of the untrained model."""
        path = self._folder / "initial.safetensors"
        self._ask("initial", path=str(path))
        return load_file(path)

    def evaluate(self, state: Path, part: HeldOut) -> dict[str, Any]:
        """The metrics of a checkpoint on a held-out part."""
        return self._ask("evaluate", path=str(state), part=part.value)

    def export(self, state: Path, folder: Path, protections: dict[str, bool]) -> str:
        """Write the model folder; returns the SHA-256 of the encoder's weights."""
        answer = self._ask("export", path=str(state), folder=str(folder), protections=protections)
        return str(answer["sha256"])

    def checkpoint(self, name: str, state: State) -> Path:
        """Write a checkpoint whole or not at all; returns its path."""
        path = self._folder / f"{name}.safetensors"
        write_private(path, save(state))
        return path

    def _ask(self, operation: str, **values: object) -> dict[str, Any]:
        if not self._started:
            self._started = True
            self._read()
        if self._process.stdin is None:
            raise TrainingError("the coordinator's worker", expected="a running process", found="none")
        try:
            self._process.stdin.write(json.dumps({"op": operation, **values}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise _rebuilt(answer["error"])
        value: dict[str, Any] = answer["ok"]
        return value

    def _died(self) -> TrainingError:
        code = self._process.wait()
        return TrainingError(
            "the coordinator's worker",
            expected="an answer",
            found=f"it ended with {code}",
            remedy="see its output above",
        )


def _rebuilt(fields: dict[str, Any]) -> CloisterError:
    kind = getattr(errors, str(fields.pop("type")), CloisterError)
    problem = str(fields.pop("problem"))
    error: CloisterError = kind(problem, **fields)
    return error
