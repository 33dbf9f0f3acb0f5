"""What a training step reads: token ids of texts, or cached sentence vectors of a frozen encoder, with their labels.

`Examples` is what every task's examples offer; those of texts with labels are here, others are in `learning.tasks`.
They are raw private data: whoever writes them to disk gives the files to their owner alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learning.base import Base
from learning.model import PADDED_POSITIONS, load_encoder, mean_of_tokens
from learning.options import TrainingPlan
from privacy.errors import ConfigError

Indices = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with (done, total), in examples."""
Tokeniser = Callable[[Sequence[str]], list[list[int]]]

SHORT_TEXT_TOKENS = 32
_TEXTS_AT_ONCE = 512
_VECTORS_AT_ONCE = 64


class Examples(Protocol):
    """Inputs of a model with what it should answer. `units`: int64 (N,), equal for examples of one privacy unit."""

    @property
    def units(self) -> Indices: ...

    @property
    def records(self) -> int:
        """How many records the examples are of: a long record may be several examples."""

    def members(self, records: Indices) -> Indices:
        """The examples of some records, by the records' numbers."""

    def inputs(self, indices: Indices, device: torch.device) -> dict[str, Tensor]:
        """The model's keyword arguments for some examples."""

    def losses(self, logits: Tensor, indices: Indices, plan: TrainingPlan) -> Tensor:
        """The loss of each example, float32 (B,), from the model's answer to its inputs."""

    def shares(self, indices: Indices) -> NDArray[np.float32]:
        """The weight of each example in its record's loss, float32 (B,): over a record they add up to one."""

    def lengths(self, indices: Indices) -> Indices:
        """The cost of each example: its number of tokens."""

    def __len__(self) -> int: ...


class _Labelled:
    """Examples that are a record each, with one label."""

    labels: Indices

    @property
    def records(self) -> int:
        return len(self.labels)

    def members(self, records: Indices) -> Indices:
        return records

    def losses(self, logits: Tensor, indices: Indices, plan: TrainingPlan) -> Tensor:
        """Weighted cross-entropy. A lot is divided by its records, not by their weights."""
        labels = torch.from_numpy(self.labels[indices]).to(logits.device)
        weights = (
            torch.tensor(plan.class_weights, dtype=torch.float32, device=logits.device) if plan.class_weights else None
        )
        return functional.cross_entropy(logits, labels, reduction="none", weight=weights)

    def shares(self, indices: Indices) -> NDArray[np.float32]:
        return np.ones(len(indices), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class TokenExamples(_Labelled):
    """Token ids in one flat array: example i is `ids[offsets[i]:offsets[i + 1]]`. ids int32, offsets int64 (N + 1,)."""

    ids: NDArray[np.int32]
    offsets: Indices
    labels: Indices
    units: Indices
    pad_id: int

    def lengths(self, indices: Indices) -> Indices:
        return self.offsets[indices + 1] - self.offsets[indices]

    def inputs(self, indices: Indices, device: torch.device) -> dict[str, Tensor]:
        return padded(self.ids, self.offsets, indices, self.pad_id, device)


@dataclass(frozen=True, eq=False)
class VectorExamples(_Labelled):
    """Cached sentence vectors of a frozen encoder, float32 (N, d)."""

    vectors: NDArray[np.float32]
    labels: Indices
    units: Indices

    def lengths(self, indices: Indices) -> Indices:
        return np.ones(len(indices), dtype=np.int64)

    def inputs(self, indices: Indices, device: torch.device) -> dict[str, Tensor]:
        return {"vectors": torch.from_numpy(np.ascontiguousarray(self.vectors[indices])).to(device)}


def padded(
    flat: NDArray[np.int32], offsets: Indices, indices: Indices, pad_id: int, device: torch.device
) -> dict[str, Tensor]:
    """Padded ids and mask, int64 (B, L). Positions and token types are contiguous, as Opacus needs them (#841)."""
    lengths = offsets[indices + 1] - offsets[indices]
    longest = int(lengths.max(initial=1))
    ids = np.full((len(indices), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(indices), longest), dtype=np.int64)
    for row, (index, length) in enumerate(zip(indices, lengths, strict=True)):
        ids[row, :length] = flat[offsets[index] : offsets[index] + length]
        mask[row, :length] = 1
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}


def load_tokeniser(base: Base, max_tokens: int) -> tuple[Tokeniser, int]:
    """The base model's own tokeniser, cutting at `max_tokens`, and its padding id.

    Raises: ConfigError when the model has fewer positions than `max_tokens`.
    """
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(str(base.folder), local_files_only=True, trust_remote_code=False)
    check_positions(config, max_tokens)
    tokenizer = AutoTokenizer.from_pretrained(str(base.folder), local_files_only=True, trust_remote_code=False)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=False)
        return [list(map(int, ids)) for ids in encoded["input_ids"]]

    return encode, int(tokenizer.pad_token_id or 0)


def check_positions(config: Any, max_tokens: int) -> None:
    """Raises: ConfigError when the base has fewer positions than `max_tokens`."""
    places = getattr(config, "max_position_embeddings", None)
    if places is None:
        return
    if config.model_type in PADDED_POSITIONS:
        places -= int(config.pad_token_id) + 1  # they count from the padding's number on
    if max_tokens > places:
        raise ConfigError(
            "model.max_tokens", expected=f"at most {places}, the positions of the base", found=str(max_tokens)
        )


def tokenise(
    texts: Sequence[str], tokeniser: Tokeniser, progress: Progress | None = None
) -> tuple[NDArray[np.int32], Indices]:
    """Token ids of texts as (flat ids int32, offsets int64 (N + 1,))."""
    flat: list[NDArray[np.int32]] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        for ids in tokeniser(texts[start : start + _TEXTS_AT_ONCE]):
            flat.append(np.asarray(ids, dtype=np.int32))
            lengths.append(len(ids))
        if progress is not None:
            progress(len(lengths), len(texts))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    return (np.concatenate(flat) if flat else np.empty(0, dtype=np.int32)), offsets


def by_length(examples: Examples, indices: Indices, batch: int) -> Iterator[Indices]:
    """Split indices into batches of similar length: nothing is paid for padding; sums over them are unchanged."""
    order = indices[np.argsort(examples.lengths(indices), kind="stable")]
    for start in range(0, len(order), batch):
        yield order[start : start + batch]


def sentence_vectors(
    encoder: nn.Module, examples: TokenExamples, device: torch.device, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Mean token vectors of a frozen encoder without dropout, float32 (N, d)."""
    encoder.eval().to(device)
    done, out = 0, None
    everything = np.arange(len(examples), dtype=np.int64)
    with torch.inference_mode():
        for indices in by_length(examples, everything, _VECTORS_AT_ONCE):
            vectors = mean_of_tokens(encoder, examples.inputs(indices, device)).cpu().numpy()
            if out is None:
                out = np.empty((len(examples), vectors.shape[1]), dtype=np.float32)
            out[indices] = vectors
            done += len(indices)
            if progress is not None:
                progress(done, len(examples))
    return out if out is not None else np.empty((0, 0), dtype=np.float32)


def text_vectors(base: Base, texts: Sequence[str]) -> NDArray[np.float32]:
    """What the frozen base makes of a few short texts: mean token vectors, float32 (N, d)."""
    tokeniser, pad = load_tokeniser(base, SHORT_TEXT_TOKENS)
    ids, offsets = tokenise(texts, tokeniser)
    none = np.zeros(len(texts), dtype=np.int64)
    examples = TokenExamples(ids, offsets, none, np.arange(len(texts), dtype=np.int64), pad)
    return sentence_vectors(load_encoder(base), examples, torch.device("cpu"))
