"""What a step reads: padding, lengths, batches of like length, sentence vectors, tokenising."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from learning.base import Base, open_base
from learning.examples import by_length, load_tokeniser, sentence_vectors, tokenise
from learning.model import load_encoder, mean_of_tokens
from privacy.errors import ConfigError
from tests.learning.tiny import make_family, token_examples, vector_examples
from tests.tiny_base import TinyBase

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tiny_base: TinyBase) -> Base:
    return open_base(tiny_base.folder, "tiny")


def test_a_batch_is_padded_at_the_end_to_its_longest_and_masked_there() -> None:
    examples = token_examples([3, 1, 4], pad=7)
    inputs = examples.inputs(np.array([1, 0]), CPU)
    first, second = examples.ids[:3].tolist(), examples.ids[3:4].tolist()
    assert inputs["input_ids"].tolist() == [[*second, 7, 7], first]
    assert inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert {value.dtype for value in inputs.values()} == {torch.int64}


def test_an_empty_batch_has_rows_of_width_one() -> None:
    inputs = token_examples([3]).inputs(np.empty(0, np.int64), CPU)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (0, 1)


def test_lengths_are_tokens_and_a_vector_costs_one() -> None:
    assert token_examples([3, 1, 4]).lengths(np.array([2, 0])).tolist() == [4, 3]
    assert vector_examples(5).lengths(np.array([4, 0])).tolist() == [1, 1]
    assert (len(token_examples([3, 1, 4])), len(vector_examples(5))) == (3, 5)


def test_vectors_are_handed_out_in_the_order_asked_for() -> None:
    examples = vector_examples(5)
    found = examples.inputs(np.array([4, 0, 4]), CPU)["vectors"]
    assert np.array_equal(found.numpy(), np.stack([examples.vectors[4], examples.vectors[0], examples.vectors[4]]))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_batches_of_like_length_hold_each_index_once(count: int) -> None:
    rng = np.random.default_rng(count)
    examples = token_examples([int(n) for n in rng.integers(1, 9, 12)])
    indices = rng.permutation(12)[:count].astype(np.int64)
    batches = list(by_length(examples, indices, 5))
    assert [len(batch) for batch in batches] == [5] * (count // 5) + [count % 5] * (count % 5 > 0)
    flat = [int(index) for batch in batches for index in batch]
    assert sorted(flat) == sorted(indices.tolist())
    lengths = examples.lengths(np.array(flat, dtype=np.int64)).tolist()
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_sentence_vectors_are_those_of_single_texts_in_the_order_of_the_examples(base: Base, count: int) -> None:
    rng = np.random.default_rng(count)
    examples = token_examples([int(n) for n in rng.integers(1, 12, count)])
    encoder, calls = load_encoder(base, dropout=0.5).train(), []
    found = sentence_vectors(encoder, examples, CPU, lambda done, total: calls.append((done, total)))
    assert (found.shape, found.dtype) == ((count, 32), np.float32)
    with torch.no_grad():
        for row in {0, count // 2, count - 1}:
            alone = mean_of_tokens(encoder, examples.inputs(np.array([row]), CPU)).numpy()[0]
            assert np.allclose(found[row], alone, atol=1e-5)
    assert calls[-1] == (count, count)
    assert [done for done, _ in calls] == [*range(64, count, 64), count]


def test_no_examples_make_no_vectors(base: Base) -> None:
    assert sentence_vectors(load_encoder(base), token_examples([]), CPU).shape[0] == 0


def test_texts_become_the_models_ids_cut_at_max_tokens(base: Base) -> None:
    encode, pad = load_tokeniser(base, 4)
    words = (base.folder / "vocab.txt").read_text().split()
    ids, offsets = tokenise(["heart pain", "", "calm mild severe left right", "unheard"], encode)
    read = [[words[i] for i in ids[a:b]] for a, b in pairwise(offsets)]
    assert read == [
        ["[CLS]", "heart", "pain", "[SEP]"],
        ["[CLS]", "[SEP]"],
        ["[CLS]", "calm", "mild", "[SEP]"],
        ["[CLS]", "[UNK]", "[SEP]"],
    ]
    assert (ids.dtype, offsets.dtype, pad) == (np.int32, np.int64, 0)


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513])
def test_tokenising_in_parts_loses_no_text(count: int) -> None:
    calls: list[tuple[int, int]] = []
    numbers = [str(number) for number in range(count)]
    ids, offsets = tokenise(
        numbers, lambda texts: [[int(text)] * 2 for text in texts], lambda done, total: calls.append((done, total))
    )
    assert ids.tolist() == [number for number in range(count) for _ in range(2)]
    assert offsets.tolist() == list(range(0, 2 * count + 1, 2))
    assert [done for done, _ in calls] == ([*range(512, count, 512), count] if count else [])


def test_more_tokens_than_positions_are_refused_before_any_text(tiny_base: TinyBase, base: Base) -> None:
    load_tokeniser(base, 64)
    with pytest.raises(ConfigError, match=r"model\.max_tokens; expected at most 64.*found 65"):
        load_tokeniser(base, 65)


def test_positions_that_count_from_the_padding_on_are_fewer(tiny_base: TinyBase, tmp_path: Path) -> None:
    roberta = make_family(tmp_path / "roberta", "roberta")  # 34 positions, of which 2 are never used
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(tiny_base.folder / name, roberta.folder / name)
    load_tokeniser(roberta, 32)
    with pytest.raises(ConfigError, match="at most 32"):
        load_tokeniser(roberta, 33)
    encoder, longest = load_encoder(roberta), token_examples([32], pad=1)
    assert sentence_vectors(encoder, longest, CPU).shape == (1, 16)  # 32 do work
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        sentence_vectors(encoder, token_examples([33], pad=1), CPU)  # and 33 never did
