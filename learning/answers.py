"""What a model folder answers to texts, as lines for a person or a script: one text a line in, answers in its order."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from learning.options import TaskKind
from privacy.errors import DataError


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


def answer_lines(folder: Path, texts: Sequence[str], *, as_json: bool) -> Iterator[str]:
    """A line for each text, its label and how sure; or for each entity, with the number of its text from 0, start, end
    (excluded) and type. `as_json`: one object a text, with probabilities and logits, or with id and spans.

    Raises: ConfigError when the folder is not a model's.
    """
    from learning.artefact import read_about  # torch: seconds of import, which a wrong file need not wait for

    if read_about(folder).task is TaskKind.TAG:
        return _entities(folder, texts, as_json)
    return _labels(folder, texts, as_json)


def _labels(folder: Path, texts: Sequence[str], as_json: bool) -> Iterator[str]:
    from learning.artefact import Predictor

    predictor = Predictor(folder)
    logits, labels = predictor.logits(texts), predictor.about.labels
    for row, chances in zip(logits, predictor.probabilities_of(logits), strict=True):
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


def _entities(folder: Path, texts: Sequence[str], as_json: bool) -> Iterator[str]:
    from learning.artefact import SpanPredictor

    predictor = SpanPredictor(folder)
    labels = predictor.about.labels
    for number, entities in enumerate(predictor.entities(texts)):
        spans = [{"start": one.start, "end": one.end, "label": labels[one.kind]} for one in entities]
        if as_json:
            yield json.dumps({"id": str(number), "spans": spans}, ensure_ascii=False)
            continue
        yield from (f"{number}\t{span['start']}\t{span['end']}\t{span['label']}" for span in spans)
