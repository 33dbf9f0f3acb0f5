"""Small models and examples of the learning tests: three families of BERT, token ids and vectors drawn from a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from learning.base import Base, open_base
from learning.examples import TokenExamples, VectorExamples
from learning.options import ModelPlan, Optimiser, Schedule, TrainingPlan, Tune

VOCABULARY, PAD = 40, {"bert": 0, "roberta": 1, "distilbert": 0}
FAMILIES = tuple(PAD)


def make_family(folder: Path, kind: str) -> Base:
    """Random weights of a two-layer model of width 16 with 32 usable positions, without a tokeniser."""
    torch.manual_seed(11)
    common = {"vocab_size": VOCABULARY, "pad_token_id": PAD[kind]}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    if kind == "bert":
        model = BertModel(BertConfig(**common, **sizes, max_position_embeddings=32), add_pooling_layer=False)
    elif kind == "roberta":
        config = RobertaConfig(**common, **sizes, max_position_embeddings=34, type_vocab_size=1)
        model = RobertaModel(config, add_pooling_layer=False)
    else:
        config = DistilBertConfig(**common, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=32)
        model = DistilBertModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # the usual start of 0.02 would leave texts all but equal
    model.save_pretrained(folder)
    return open_base(folder, kind)


def model_plan(base: Base, tune: Tune = Tune.HEAD, labels: int = 3, **changes: object) -> ModelPlan:
    return replace(ModelPlan(base=base, labels=labels, tune=tune), **changes)


def training_plan(**changes: object) -> TrainingPlan:
    """Plain SGD: one step a round on lots of 8, unless `changes` say otherwise."""
    plain = TrainingPlan(
        steps_per_round=1,
        rounds=1,
        lot=8,
        batch=8,
        optimiser=Optimiser.SGD,
        learning_rate=0.1,
        momentum=0.0,
        schedule=Schedule.CONSTANT,
    )
    return replace(plain, **changes)


def vector_examples(count: int, width: int = 6, labels: int = 3, seed: int = 0) -> VectorExamples:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    return VectorExamples(vectors, rng.integers(0, labels, count), np.arange(count, dtype=np.int64))


def token_examples(lengths: list[int], pad: int = 0, labels: int = 3, seed: int = 0) -> TokenExamples:
    """Random ids (none is special) of these lengths."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, VOCABULARY, sum(lengths)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    count = len(lengths)
    return TokenExamples(ids, offsets, rng.integers(0, labels, count), np.arange(count, dtype=np.int64), pad)
