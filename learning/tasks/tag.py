"""The entities in a text: a tag for each word piece, in windows where the text is long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from torch import nn

from learning.entities import tag_names
from learning.examples import Examples, Indices
from learning.model import State, merged_encoder, set_state
from learning.options import ModelPlan
from learning.recipe import ReadRecords, Recipe, StageProgress
from learning.shelf import Shelf
from learning.tasks.folder import HEAD_FILE
from learning.tasks.tag_examples import TagExamples, cut, tag_examples
from learning.tasks.tag_metrics import Pieces, measure_tags
from learning.tasks.tagger import answers, build_tagger
from privacy.errors import DataError, TrainingError

_ARRAYS = ("ids", "offsets", "firsts", "tags", "units")


class _Tag:
    def build(self, plan: ModelPlan) -> nn.Module:
        """Encoder and head. A frozen trunk runs each time: to keep a vector for every piece would be too much."""
        return build_tagger(plan)

    def start(self, plan: ModelPlan) -> nn.Module:
        return self.build(plan)

    def store(self, read: ReadRecords, recipe: Recipe, shelf: Shelf, report: StageProgress) -> None:
        if len(read.entities) != len(read.texts):
            raise DataError("the data set has no column of spans", remedy="map the role spans to a column")
        pieces = cut(read.texts, recipe.base, recipe.max_tokens, lambda done, total: report("tokenise", done, total))
        examples = tag_examples(pieces, read.entities, read.units)
        for name in _ARRAYS:
            shelf.put_array(f"{name}.npy", getattr(examples, name))
        shelf.put_value("pad.json", examples.pad_id)

    def load(self, shelf: Shelf, recipe: Recipe) -> Examples:  # noqa: ARG002
        ids, offsets, firsts, tags, units = (shelf.array(f"{name}.npy", large=name == "ids") for name in _ARRAYS)
        return TagExamples(ids, offsets, firsts, tags, units, int(shelf.value("pad.json")))

    def join(self, parts: Sequence[Examples]) -> Examples:
        own = [part for part in parts if isinstance(part, TagExamples)]
        if len(own) != len(parts):
            raise DataError("pooled examples", expected="one kind", found="two")
        firsts = _chained([part.firsts for part in own])
        return TagExamples(
            np.concatenate([part.ids for part in own]),
            _chained([part.offsets for part in own]),
            firsts,
            np.concatenate([part.tags for part in own]),
            np.repeat(np.arange(len(firsts) - 1, dtype=np.int64), np.diff(firsts)),
            own[0].pad_id,
        )

    def measure(self, model: nn.Module, examples: Examples, labels: int) -> Mapping[str, object]:
        if not isinstance(examples, TagExamples):
            raise DataError("held-out examples", expected="texts with entities", found="others")
        said = answers(model, examples)
        pieces = Pieces(
            tags=examples.tags,
            best=said.best,
            confidence=said.confidence,
            losses=said.losses,
            texts=[examples.pieces(record) for record in range(examples.records)],
        )
        return measure_tags(pieces, labels).to_dict()

    def writer(self, plan: ModelPlan, state: State, labels: Sequence[str]) -> Callable[[Path], None]:
        """What transformers' `AutoModelForTokenClassification` loads: encoder, head and the tags' names."""
        from transformers import AutoModelForTokenClassification

        model = build_tagger(plan)
        set_state(model, state)
        encoder = merged_encoder(model.encoder, plan)
        names = tag_names(labels)
        config = encoder.config
        config.id2label, config.label2id = dict(enumerate(names)), {name: place for place, name in enumerate(names)}
        whole = AutoModelForTokenClassification.from_config(config)
        whole.base_model.load_state_dict(encoder.state_dict())
        head = {
            "linear.weight": model.head.linear.weight.detach().float() * model.head.scale,
            "linear.bias": model.head.linear.bias.detach().float(),
        }
        if not isinstance(whole.classifier, nn.Linear):
            raise TrainingError("the base model", expected="a token classifier with a linear head", found="another")
        whole.classifier.load_state_dict({name.removeprefix("linear."): value for name, value in head.items()})

        def write(folder: Path) -> None:
            whole.save_pretrained(str(folder))
            save_file({name: value.numpy() for name, value in head.items()}, folder / HEAD_FILE)

        return write

    def card(self, labels: Sequence[str], max_tokens: int) -> tuple[str, Sequence[str], str]:
        facts = [f"Entity types: {', '.join(labels)}", f"Texts are read in windows of {max_tokens} tokens that overlap"]
        return "token-classification", facts, _USE


def _chained(parts: Sequence[Indices]) -> Indices:
    """Offsets of several flat arrays as those of one after the other, int64."""
    lengths = np.concatenate([np.diff(part) for part in parts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


_USE = f"""`AutoModelForTokenClassification.from_pretrained` and `AutoTokenizer.from_pretrained` load all of it. Each
word piece of an entity is tagged, B- the first and I- the others. `cloister predict FOLDER` gives entities with their
offsets, and `cloister-site anonymise --tagger FOLDER` hides them beside the rules. `{HEAD_FILE}` is the head again."""

TAG = _Tag()
