"""The trained model as a folder: an encoder that `AutoModel` loads as it stands, its tokeniser, and the head beside it.

`cloister.json` says what the head's outputs mean and how texts were cut; predictions from the folder are those of the
training code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from learning.base import WEIGHTS, open_base
from learning.entities import Entity
from learning.examples import Examples, TokenExamples, load_tokeniser, tokenise
from learning.model import HEAD_PREFIX, Classifier, Head, encoder_width, load_encoder, set_state
from learning.options import ModelPlan, TaskKind, Tune
from learning.storage import write_dir
from learning.tasks import task_of
from learning.tasks.folder import ABOUT_FILE, HEAD_FILE
from learning.tasks.tag_examples import cut
from learning.tasks.tagger import Tagger, TagHead, find_entities
from learning.training import predict_logits
from privacy.errors import ConfigError, ProtocolError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class About:
    """What a model folder says of itself. `base`: name and SHA-256 of the base's weights; `job`: its digest."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    base: str
    base_sha256: str
    tune: Tune
    job_name: str
    job_digest: str
    protections: dict[str, bool]
    format: int = FORMAT
    task: TaskKind = TaskKind.CLASSIFY


def export_model(folder: Path, plan: ModelPlan, state: dict[str, NDArray[np.float32]], about: About) -> str:
    """Write the model folder, whole or not at all; returns the SHA-256 of the encoder's weights, in hex.

    `state`: the tuned parameters by name. LoRA adapters are merged into the encoder (Hu et al. 2021, section 4.1).

    Raises: ProtocolError when the state does not fit the plan; ConfigError when the folder is there already.
    """
    if folder.exists():
        raise ConfigError(f"{folder}", expected="a folder that is not there yet", found="one that is")
    write = task_of(plan.task).writer(plan, state, about.labels)

    def fill(target: Path) -> None:
        from transformers import AutoTokenizer

        write(target)
        tokenizer = AutoTokenizer.from_pretrained(str(plan.base.folder), local_files_only=True)
        if about.task is TaskKind.TAG:
            tokenizer.model_max_length = about.max_tokens  # whoever reads long texts with it cuts the same windows
        tokenizer.save_pretrained(str(target))
        (target / ABOUT_FILE).write_text(json.dumps(_written(about), indent=1, ensure_ascii=False), encoding="utf-8")
        (target / "README.md").write_text(_card(about), encoding="utf-8")

    write_dir(folder, fill)
    with (folder / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _written(about: About) -> dict[str, object]:
    """What stands in the file; that a model classifies goes without saying, as in folders of earlier versions."""
    values = asdict(about)
    if about.task is TaskKind.CLASSIFY:
        del values["task"]
    return values


class Predictor:
    """The folder of a classifier, loaded: texts in, logits and labels out.

    Raises: ConfigError when the folder is not one that `export_model` wrote, or its task is another one.
    """

    def __init__(self, folder: Path) -> None:
        self.about = read_about(folder)
        _expect(self.about, TaskKind.CLASSIFY, folder)
        self._base = open_base(folder, str(folder))
        head = _read_head(folder, encoder_width(self._base), len(self.about.labels))
        self.model = Classifier(load_encoder(self._base), head)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits float32 (N, K), K in the order of `about.labels`."""
        tokeniser, pad = load_tokeniser(self._base, self.about.max_tokens)
        ids, offsets = tokenise(texts, tokeniser)
        nothing = np.zeros(len(texts), dtype=np.int64)
        return predict_logits(self.model, TokenExamples(ids, offsets, nothing, nothing, pad))

    @staticmethod
    def probabilities_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of logits, float32 (N, K)."""
        return torch.softmax(torch.from_numpy(logits), dim=-1).numpy()


class SpanPredictor:
    """The folder of a tagger, loaded: texts in, entities out.

    Raises: ConfigError when the folder is not one that `export_model` wrote, or its task is another one.
    """

    def __init__(self, folder: Path) -> None:
        self.about = read_about(folder)
        _expect(self.about, TaskKind.TAG, folder)
        self._base = open_base(folder, str(folder))
        head = TagHead(encoder_width(self._base), TaskKind.TAG.outputs(len(self.about.labels)))
        self.model = Tagger(load_encoder(self._base), _filled(head, folder))

    def entities(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The entities of each text, in its own offsets; kinds are positions in `about.labels`."""
        return find_entities(self.model, cut(texts, self._base, self.about.max_tokens))


def measure_folder(folder: Path, examples: Examples) -> Mapping[str, object]:
    """How good a folder's model is on token examples of its own task, as the task measures it.

    Raises: ConfigError when the folder is not one that `export_model` wrote; DataError when there is nothing to measure
    on, or the examples are of another task.
    """
    about = read_about(folder)
    classifies = about.task is TaskKind.CLASSIFY
    model: nn.Module = Predictor(folder).model if classifies else SpanPredictor(folder).model
    return task_of(about.task).measure(model, examples, len(about.labels))


def _expect(about: About, task: TaskKind, folder: Path) -> None:
    if about.task is not task:
        raise ConfigError(f"{folder}", expected=f"a model that was trained to {task.value}", found=about.task.value)


_AnyHead = TypeVar("_AnyHead", Head, TagHead)


def _read_head(folder: Path, width: int, labels: int) -> Head:
    return _filled(Head(width, labels), folder)


def _filled(head: _AnyHead, folder: Path) -> _AnyHead:
    try:
        set_state(head, {HEAD_PREFIX + name: value for name, value in load_file(folder / HEAD_FILE).items()})
    except OSError:
        raise ConfigError(f"{folder}", expected=f"a model folder with {HEAD_FILE}", found="none") from None
    except SafetensorError:
        raise ConfigError(f"{folder / HEAD_FILE}", expected="a safetensors file", found="something else") from None
    except ProtocolError as error:
        raise ConfigError(f"{folder / HEAD_FILE}: {error}") from None
    return head


def read_about(folder: Path) -> About:
    """Read `cloister.json` of a model folder. Raises: ConfigError when there is none or it is malformed."""
    try:
        about = TypeAdapter(About).validate_json((folder / ABOUT_FILE).read_bytes())
    except OSError:
        raise ConfigError(f"{folder}", expected=f"a model folder with {ABOUT_FILE}", found="none") from None
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_input=False)[0]["loc"])) or "no JSON object"
        raise ConfigError(f"{folder / ABOUT_FILE}", expected="what Cloister writes", found=f"{place}") from None
    if about.format != FORMAT:
        raise ConfigError(f"{folder / ABOUT_FILE}", expected=f"format {FORMAT}", found=str(about.format))
    return about


def _card(about: About) -> str:
    on = [name.replace("_", " ") for name, value in about.protections.items() if value]
    off = [name.replace("_", " ") for name, value in about.protections.items() if not value]
    pipeline, facts, use = task_of(about.task).card(about.labels, about.max_tokens)
    first, second = facts
    what = "text classifier" if about.task is TaskKind.CLASSIFY else "tagger of entities in text"
    return f"""---
library_name: transformers
base_model: {about.base}
tags: [{pipeline}, federated-learning, differential-privacy]
---

# {about.job_name}

A {what} trained with Cloister over several sites; tuned part: {about.tune.value}.

- {first}
- Base: {about.base}, SHA-256 of the weights {about.base_sha256}
- {second}
- Job: {about.job_digest}
- Protections on: {", ".join(on) or "none"}; off: {", ".join(off) or "none"}

{use}

What this model may be used for, and its accuracy, stand in the run's report. It was not made to be used without a
person's judgement.
"""
