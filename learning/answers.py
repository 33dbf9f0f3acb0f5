"""What a model folder answers to texts, as lines for a person or a script: one text a line in, answers in its order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learning.entities import Entity, carry
from learning.options import TaskKind
from privacy.anonymise import Redacted
from privacy.errors import AnonymiseError, DataError

Hide = Callable[[str], Redacted]
"""Hides the identifiers of a text, or withholds it (AnonymiseError)."""


def read_texts(path: Path | None) -> list[str]:
    """The lines of a file, or of standard input. Raises: DataError when there are none, or they are not UTF-8."""
    name = "standard input" if path is None else str(path)
    try:
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
        texts = data.decode("utf-8").splitlines()
    except OSError as error:
        raise DataError(name, expected="a text file", found=error.strerror or "none") from None
    except UnicodeDecodeError as error:
        raise DataError(name, expected="UTF-8", found=f"byte {error.start} that is not") from None
    if not texts:
        raise DataError(name, expected="at least one line", found="none")
    return texts


def answer_lines(folder: Path, texts: Sequence[str], *, as_json: bool, hide: Hide | None = None) -> Iterator[str]:
    """A line for each text, its label and how sure; or for each entity, with the number of its text from 0, start, end
    (excluded) and type. `as_json`: one object a text, with probabilities and logits, or with id and spans.

    `hide`: what the texts pass through first, as the records did that the model was trained on. A text that it
    withholds is answered by `withheld` (an object with that key) alone; offsets are those of the text as it was given.

    Raises: ConfigError when the folder is not a model's.
    """
    from learning.artefact import read_about  # torch: seconds of import, which a wrong file need not wait for

    about = read_about(folder)
    hidden = [_hidden(text, hide) for text in texts]
    if about.task is TaskKind.TAG:
        return _entities(folder, hidden, as_json)
    return _labels(folder, hidden, as_json)


def _hidden(text: str, hide: Hide | None) -> Redacted | None:
    try:
        return Redacted(text, ()) if hide is None else hide(text)
    except AnonymiseError:
        return None


def _read(hidden: Sequence[Redacted | None]) -> list[str]:
    return [each.text for each in hidden if each is not None]


def _labels(folder: Path, hidden: Sequence[Redacted | None], as_json: bool) -> Iterator[str]:
    from learning.artefact import Predictor

    predictor = Predictor(folder)
    texts = _read(hidden)
    labels, answers = predictor.about.labels, iter(predictor.logits(texts) if texts else np.empty((0, 1), np.float32))
    for each in hidden:
        if each is None:
            yield json.dumps({"withheld": True}) if as_json else "withheld"
            continue
        row: NDArray[np.float32] = next(answers)
        chances = predictor.probabilities_of(row)
        best = int(chances.argmax())
        if as_json:
            answer = {
                "label": labels[best],
                "probabilities": dict(zip(labels, map(float, chances), strict=True)),
                "logits": [float(value) for value in row],
            }
            yield json.dumps(answer, ensure_ascii=False)
        else:
            yield f"{labels[best]}\t{chances[best]:.3f}"


def _entities(folder: Path, hidden: Sequence[Redacted | None], as_json: bool) -> Iterator[str]:
    from learning.artefact import SpanPredictor

    predictor = SpanPredictor(folder)
    labels, texts = predictor.about.labels, _read(hidden)
    answers = iter(predictor.entities(texts) if texts else ())
    for number, each in enumerate(hidden):
        if each is None:
            yield json.dumps({"id": str(number), "withheld": True}) if as_json else f"{number}\twithheld"
            continue
        entities = _moved_back(next(answers), each)
        spans = [{"start": one.start, "end": one.end, "label": labels[one.kind]} for one in entities]
        if as_json:
            yield json.dumps({"id": str(number), "spans": spans}, ensure_ascii=False)
            continue
        yield from (f"{number}\t{span['start']}\t{span['end']}\t{span['label']}" for span in spans)


def _moved_back(entities: Sequence[Entity], hidden: Redacted) -> tuple[Entity, ...]:
    """The same entities in the text as it was before its identifiers were hidden."""
    stretches: list[tuple[int, int, int]] = []
    shift = 0
    for found, length in zip(hidden.findings, hidden.lengths, strict=True):
        start, size = found.start + shift, found.end - found.start
        stretches.append((start, start + length, size))
        shift += length - size
    return carry(entities, stretches)
