"""The trained model as a folder: an encoder that `AutoModel` loads as it stands, its tokeniser, and the head beside it.

`cloister.json` says what the head's outputs mean and how texts were cut; predictions from the folder are those of the
training code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from learning.base import WEIGHTS, open_base
from learning.examples import TokenExamples, load_tokeniser, tokenise
from learning.model import HEAD_PREFIX, Classifier, Head, build_classifier, encoder_width, load_encoder, set_state
from learning.options import ModelPlan, Tune
from learning.storage import write_dir
from learning.training import predict_logits
from privacy.errors import ConfigError, ProtocolError

HEAD_FILE = "head.safetensors"
ABOUT_FILE = "cloister.json"
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


def export_model(folder: Path, plan: ModelPlan, state: dict[str, NDArray[np.float32]], about: About) -> str:
    """Write the model folder, whole or not at all; returns the SHA-256 of the encoder's weights, in hex.

    `state`: the tuned parameters by name. LoRA adapters are merged into the encoder (Hu et al. 2021, section 4.1).

    Raises: ProtocolError when the state does not fit the plan; ConfigError when the folder is there already.
    """
    if folder.exists():
        raise ConfigError(f"{folder}", expected="a folder that is not there yet", found="one that is")
    model = _classifier(plan, state)
    encoder: Any = model.encoder
    if plan.tune is Tune.LORA:
        encoder = encoder.merge_and_unload()

    def fill(target: Path) -> None:
        from transformers import AutoTokenizer

        encoder.save_pretrained(str(target))
        AutoTokenizer.from_pretrained(str(plan.base.folder), local_files_only=True).save_pretrained(str(target))
        head = {name: p.detach().cpu().numpy() for name, p in model.head.named_parameters()}
        save_file(head, target / HEAD_FILE)
        (target / ABOUT_FILE).write_text(json.dumps(asdict(about), indent=1, ensure_ascii=False), encoding="utf-8")
        (target / "README.md").write_text(_card(about), encoding="utf-8")

    write_dir(folder, fill)
    with (folder / WEIGHTS).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _classifier(plan: ModelPlan, state: dict[str, NDArray[np.float32]]) -> Classifier:
    if plan.tune is Tune.HEAD:
        head = Head(encoder_width(plan.base), plan.labels)
        set_state(head, state)
        return Classifier(load_encoder(plan.base), head)
    model = build_classifier(plan)
    set_state(model, state)
    return model


class Predictor:
    """A model folder, loaded: texts in, logits and labels out.

    Raises: ConfigError when the folder is not one that `export_model` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.about = read_about(folder)
        self._base = open_base(folder, str(folder))
        head = _read_head(folder, encoder_width(self._base), len(self.about.labels))
        self._model = Classifier(load_encoder(self._base), head)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits float32 (N, K), K in the order of `about.labels`."""
        tokeniser, pad = load_tokeniser(self._base, self.about.max_tokens)
        ids, offsets = tokenise(texts, tokeniser)
        nothing = np.zeros(len(texts), dtype=np.int64)
        return predict_logits(self._model, TokenExamples(ids, offsets, nothing, nothing, pad))

    @staticmethod
    def probabilities_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of logits, float32 (N, K)."""
        return torch.softmax(torch.from_numpy(logits), dim=-1).numpy()


def _read_head(folder: Path, width: int, labels: int) -> Head:
    head = Head(width, labels)
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
    return f"""---
library_name: transformers
base_model: {about.base}
tags: [text-classification, federated-learning, differential-privacy]
---

# {about.job_name}

A text classifier trained with Cloister over several sites; tuned part: {about.tune.value}.

- Labels: {", ".join(about.labels)}
- Base: {about.base}, SHA-256 of the weights {about.base_sha256}
- Texts are cut at {about.max_tokens} tokens
- Job: {about.job_digest}
- Protections on: {", ".join(on) or "none"}; off: {", ".join(off) or "none"}

`AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` load the encoder from this folder. The head
(`{HEAD_FILE}`: `linear.weight` and `linear.bias`) reads the mean of the last hidden vectors over the tokens of the
mask, scaled to the norm sqrt(d). `cloister predict FOLDER` does all of it.

What this model may be used for, and its accuracy, stand in the run's report. It was not made to be used without a
person's judgement.
"""
