"""The coordinator's worker process: everything that needs torch, behind lines of JSON.

Started by `server.worker` as `python -m server.evaluator SPEC`. It makes the first model, measures a model on held-out
data, and writes the result folder. Requests come on standard input, answers go to standard output, one line each.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import nn

from learning.artefact import About, export_model
from learning.examples import Examples
from learning.model import get_state, set_state
from learning.prepare import Prepared, Recipe, Rows, prepare, profile_digest
from learning.records import open_table
from learning.storage import make_private_dir, write_private
from learning.tasks import task_of
from privacy import errors
from privacy.anonymise import Anonymiser, Profile, load_profile
from privacy.errors import CloisterError, ConfigError
from protocol.heldout import HeldOut
from protocol.job import NO_PROFILE, Job, job_from_canonical
from protocol.plans import base_of, caches_vectors, job_columns, model_plan

KEY_FILE, KEY_BYTES = "pseudonyms.key", 32


class Evaluator:
    """Holds the job, its base and the prepared held-out data of one run."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.job: Job = job_from_canonical(spec["job"], "the job")
        self.base = base_of(self.job)
        self.plan = model_plan(self.job, self.base)
        self._task = task_of(self.job.task.kind)
        self._data, self._cache = spec["data"], Path(spec["cache"])
        self._key = _pseudonym_key(make_private_dir(self._cache))
        self._model: nn.Module | None = None
        self._parts: dict[str, Prepared] = {}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read, anonymise and tokenise one held-out part; says how many records it has and what was hidden."""
        part = str(request["part"])
        prepared = prepare(lambda: self._load(part), self._recipe(part), anonymiser=self._hide(), cache=self._cache)
        self._parts[part] = prepared
        return {"records": len(prepared.examples), "hidden": prepared.hidden.to_dict()}

    def part(self, part: HeldOut) -> Examples:
        """The examples of a prepared part."""
        return self._parts[part.value].examples

    def initial(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the tuned part of the untrained model."""
        save_file(get_state(self._model_now()), str(request["path"]))
        return {"base": asdict(self.base) | {"folder": str(self.base.folder)}}

    def evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Measure a model on a held-out part."""
        model = self._model_now()
        set_state(model, load_file(str(request["path"])))
        prepared = self._parts[str(request["part"])]
        return dict(self._task.measure(model, prepared.examples, len(self.job.task.labels)))

    def export(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the model folder."""
        about = About(
            labels=self.job.task.labels,
            max_tokens=self.job.model.max_tokens,
            base=self.base.name if "/" not in self.base.name else Path(self.base.name).name,
            base_sha256=self.base.sha256,
            tune=self.job.model.tune,
            job_name=self.job.name,
            job_digest=self.job.digest(),
            protections=dict(request["protections"]),
            task=self.job.task.kind,
        )
        state: dict[str, NDArray[np.float32]] = load_file(str(request["path"]))
        return {"sha256": export_model(Path(str(request["folder"])), self.plan, state, about)}

    def _model_now(self) -> nn.Module:
        if self._model is None:
            self._model = self._task.start(self.plan)
        return self._model

    def _profile(self) -> Profile | None:
        name = self.job.anonymisation.profile
        return None if name == NO_PROFILE else load_profile(name)

    def _hide(self) -> Callable[[], Anonymiser] | None:
        profile = self._profile()
        return None if profile is None else partial(Anonymiser, profile, self._key)

    def _load(self, part: str) -> Rows:
        table = open_table(
            Path(self._data["path"]),
            job_columns(self.job),
            labels=self.job.task.labels,
        )
        return table, np.load(self._data["rows"][part], allow_pickle=False)

    def _recipe(self, part: str) -> Recipe:
        profile = self._profile()
        rows = Path(self._data["rows"][part]).read_bytes()
        with Path(self._data["path"]).open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").digest()
        return Recipe(
            source=hashlib.sha256(content + hashlib.sha256(rows).digest()).hexdigest(),
            profile=NO_PROFILE if profile is None else profile_digest(profile, self._key),
            base=self.base,
            max_tokens=self.job.model.max_tokens,
            vectors=caches_vectors(self.job),
            task=self.job.task.kind,
        )


def _pseudonym_key(cache: Path) -> bytes:
    """The key of the cache's pseudonyms, made once beside it: whoever shares the cache finds what is there."""
    file = cache / KEY_FILE
    if not file.exists():
        write_private(file, secrets.token_bytes(KEY_BYTES))
    return file.read_bytes()


def serve(evaluator: Evaluator, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until standard input ends. An error is an answer with its type, so that the caller raises it."""
    operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "prepare": evaluator.prepare,
        "initial": evaluator.initial,
        "evaluate": evaluator.evaluate,
        "export": evaluator.export,
    }
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"ok": operations[request.pop("op")](request)}
        except CloisterError as error:
            answer = {"error": _fields(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _fields(error: CloisterError) -> dict[str, str | None]:
    """The error as the caller raises it again: of its own type, or of the nearest above it that every process knows."""
    known = (kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return {
        "type": next(known),
        "problem": error.problem,
        "expected": error.expected,
        "found": error.found,
        "remedy": error.remedy,
    }


def main() -> int:
    """Read the spec file named on the command line and serve. Whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        evaluator = Evaluator(spec)
    except CloisterError as error:
        answers.write(json.dumps({"error": _fields(error)}) + "\n")
        answers.flush()
        return error.exit_code
    except (OSError, ValueError, KeyError, IndexError):
        answers.write(json.dumps({"error": _fields(ConfigError("the worker's spec", expected="a JSON file"))}) + "\n")
        return ConfigError.exit_code
    answers.write(json.dumps({"ok": {}}) + "\n")
    answers.flush()
    serve(evaluator, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
