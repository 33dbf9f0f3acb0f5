"""One label for a text: the mean of the last hidden vectors, and a linear head on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from safetensors.numpy import save_file
from torch import nn

from learning.examples import (
    Examples,
    TokenExamples,
    VectorExamples,
    load_tokeniser,
    sentence_vectors,
    text_vectors,
    tokenise,
)
from learning.metrics import measure
from learning.model import (
    Classifier,
    Head,
    State,
    build_classifier,
    build_head,
    encoder_width,
    load_encoder,
    merged_encoder,
    set_state,
)
from learning.options import ModelPlan, Tune
from learning.recipe import ReadRecords, Recipe, StageProgress
from learning.shelf import Shelf
from learning.tasks.folder import HEAD_FILE
from learning.training import pick_device, predict_logits
from privacy.errors import DataError


class _Classify:
    def build(self, plan: ModelPlan) -> nn.Module:
        """A bare head where the trunk is frozen, since its vectors are cached; else encoder and head."""
        return build_head(plan) if plan.tune is Tune.HEAD else build_classifier(plan)

    def start(self, plan: ModelPlan) -> nn.Module:
        model = self.build(plan)
        if plan.label_texts:
            head = model if isinstance(model, Head) else model.head
            cast(Head, head).start_from(text_vectors(plan.base, plan.label_texts))
        return model

    def store(self, read: ReadRecords, recipe: Recipe, shelf: Shelf, report: StageProgress) -> None:
        if read.labels is None:
            raise DataError("the data set has no label column", remedy="map the role label to a column")
        tokeniser, pad = load_tokeniser(recipe.base, recipe.max_tokens)
        ids, offsets = tokenise(read.texts, tokeniser, lambda done, total: report("tokenise", done, total))
        shelf.put_array("labels.npy", read.labels)
        shelf.put_array("units.npy", read.units)
        if recipe.vectors:
            tokens = TokenExamples(ids, offsets, read.labels, read.units, pad)
            encoder, device = load_encoder(recipe.base), pick_device()
            vectors = sentence_vectors(encoder, tokens, device, lambda done, total: report("encode", done, total))
            shelf.put_array("vectors.npy", vectors)
            return
        shelf.put_array("ids.npy", ids)
        shelf.put_array("offsets.npy", offsets)
        shelf.put_value("pad.json", pad)

    def load(self, shelf: Shelf, recipe: Recipe) -> Examples:
        labels, units = shelf.array("labels.npy"), shelf.array("units.npy")
        if recipe.vectors:
            return VectorExamples(shelf.array("vectors.npy", large=True), labels, units)
        ids, offsets = shelf.array("ids.npy", large=True), shelf.array("offsets.npy")
        return TokenExamples(ids, offsets, labels, units, int(shelf.value("pad.json")))

    def join(self, parts: Sequence[Examples]) -> Examples:
        vectors = [part for part in parts if isinstance(part, VectorExamples)]
        tokens = [part for part in parts if isinstance(part, TokenExamples)]
        if len(parts) not in (len(vectors), len(tokens)):
            raise DataError("pooled examples", expected="one kind", found="two")
        labels = np.concatenate([part.labels for part in (vectors or tokens)])
        units = np.arange(len(labels), dtype=np.int64)
        if vectors:
            return VectorExamples(np.concatenate([part.vectors for part in vectors]), labels, units)
        lengths = np.concatenate([np.diff(part.offsets) for part in tokens])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return TokenExamples(np.concatenate([part.ids for part in tokens]), offsets, labels, units, tokens[0].pad_id)

    def measure(self, model: nn.Module, examples: Examples, labels: int) -> Mapping[str, object]:  # noqa: ARG002
        if not isinstance(examples, VectorExamples | TokenExamples):
            raise DataError("held-out examples", expected="texts with labels", found="others")
        return measure(predict_logits(model, examples), examples.labels).to_dict()

    def writer(self, plan: ModelPlan, state: State, labels: Sequence[str]) -> Callable[[Path], None]:  # noqa: ARG002
        model = _classifier(plan, state)
        encoder = merged_encoder(model.encoder, plan)

        def write(folder: Path) -> None:
            encoder.save_pretrained(str(folder))
            head = {name: p.detach().cpu().numpy() for name, p in model.head.named_parameters()}
            save_file(head, folder / HEAD_FILE)

        return write

    def card(self, labels: Sequence[str], max_tokens: int) -> tuple[str, Sequence[str], str]:
        facts = [f"Labels: {', '.join(labels)}", f"Texts are cut at {max_tokens} tokens"]
        return "text-classification", facts, _USE


def _classifier(plan: ModelPlan, state: State) -> Classifier:
    if plan.tune is Tune.HEAD:
        head = Head(encoder_width(plan.base), plan.labels)
        set_state(head, state)
        return Classifier(load_encoder(plan.base), head)
    model = build_classifier(plan)
    set_state(model, state)
    return model


_USE = f"""`AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` load the encoder from this folder. The head
(`{HEAD_FILE}`: `linear.weight` and `linear.bias`) reads the mean of the last hidden vectors over the tokens of the
mask, scaled to the norm sqrt(d). `cloister predict FOLDER` does all of it."""

CLASSIFY = _Classify()
