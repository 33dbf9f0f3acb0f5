"""Texts as windows of word pieces, each piece with its tag: what a tagger trains on.

A long text becomes windows that overlap by an eighth of their length. Each piece counts once, in the window where it
stands further from the edge; in the other it is context. So nothing is counted twice, no piece is read at the very
edge of a window (but for the text's own), and the counted pieces of a record, in order, are the text.

With privacy a unit's windows are bounded like a person's records: `max_records_per_unit` of them, drawn afresh in each
round. Where the unit is a record that is one window of each text in a round; all windows of a text have its unit's
number, so they are clipped as one whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from learning.base import Base
from learning.entities import UNCOUNTED, Entity, Tags, tags_of
from learning.examples import Indices, Progress, check_positions, padded
from learning.options import TrainingPlan
from privacy.errors import ConfigError

OVERLAP_SHARE = 8
"""An eighth of a window is shared with the next."""
_TEXTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """Texts cut into windows. Window w is `ids[offsets[w]:offsets[w + 1]]`; text r is windows firsts[r]:firsts[r + 1].

    `spans`: int32 (P, 2), where each piece stands in its text; `counted`: bool (P,), false for special tokens and for
    pieces that count in the window beside; ids int32 (P,), offsets int64 (W + 1,), firsts int64 (R + 1,).
    """

    ids: NDArray[np.int32]
    offsets: Indices
    firsts: Indices
    spans: NDArray[np.int32]
    counted: NDArray[np.bool_]
    pad_id: int

    def pieces(self, text: int) -> slice:
        """The flat positions of a text's pieces, all its windows together."""
        return slice(int(self.offsets[self.firsts[text]]), int(self.offsets[self.firsts[text + 1]]))

    @property
    def texts(self) -> int:
        return len(self.firsts) - 1


@dataclass(frozen=True, eq=False)
class TagExamples:
    """Windows with the tag of each piece, `UNCOUNTED` for context. tags int16 (P,); units int64 (W,); else as `Cut`."""

    ids: NDArray[np.int32]
    offsets: Indices
    firsts: Indices
    tags: Tags
    units: Indices
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def records(self) -> int:
        return len(self.firsts) - 1

    def members(self, records: Indices) -> Indices:
        """All windows of these texts."""
        parts = [np.arange(self.firsts[r], self.firsts[r + 1], dtype=np.int64) for r in records]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def lengths(self, indices: Indices) -> Indices:
        return self.offsets[indices + 1] - self.offsets[indices]

    def inputs(self, indices: Indices, device: torch.device) -> dict[str, Tensor]:
        return padded(self.ids, self.offsets, indices, self.pad_id, device)

    def losses(self, logits: Tensor, indices: Indices, plan: TrainingPlan) -> Tensor:  # noqa: ARG002
        """Mean cross-entropy of the pieces that count in each window, float32 (B,); zero where none does."""
        tags = self.tags_of(indices, logits.shape[1]).to(logits.device)
        each = functional.cross_entropy(logits.transpose(1, 2), tags, reduction="none", ignore_index=UNCOUNTED)
        return each.sum(dim=1) / (tags != UNCOUNTED).sum(dim=1).clamp_min(1)

    def shares(self, indices: Indices) -> NDArray[np.float32]:
        """The part of its text's pieces that count in each window: the mean of a text is over its pieces."""
        found: NDArray[np.float32] = self._shares[indices]
        return found

    def tags_of(self, indices: Indices, longest: int) -> Tensor:
        """The tags as the inputs are padded, int64 (B, longest)."""
        tags = np.full((len(indices), longest), UNCOUNTED, dtype=np.int64)
        for row, index in enumerate(indices):
            own = self.tags[self.offsets[index] : self.offsets[index + 1]]
            tags[row, : len(own)] = own
        return torch.from_numpy(tags)

    def pieces(self, record: int) -> slice:
        """The flat positions of a record's pieces, all its windows together."""
        return slice(int(self.offsets[self.firsts[record]]), int(self.offsets[self.firsts[record + 1]]))

    @cached_property
    def _shares(self) -> NDArray[np.float32]:
        counts = np.add.reduceat(np.asarray(self.tags) != UNCOUNTED, self.offsets[:-1], dtype=np.int64)
        whole = np.add.reduceat(counts, self.firsts[:-1])
        of_record = np.repeat(np.maximum(whole, 1), np.diff(self.firsts))
        shares: NDArray[np.float32] = (counts / of_record).astype(np.float32)
        return shares


def tag_examples(cut: Cut, entities: Sequence[Sequence[Entity]], units: Indices) -> TagExamples:
    """The cut texts with their entities' tags; `units`: int64 (texts,)."""
    tags = np.full(len(cut.ids), UNCOUNTED, dtype=np.int16)
    for text, marked in enumerate(entities):
        place = cut.pieces(text)
        counted = cut.counted[place]
        own = tags[place]
        own[counted] = tags_of(cut.spans[place][counted], marked)
    per_window = np.repeat(units, np.diff(cut.firsts)).astype(np.int64)
    return TagExamples(cut.ids, cut.offsets, cut.firsts, tags, per_window, cut.pad_id)


def cut(texts: Sequence[str], base: Base, max_tokens: int, progress: Progress | None = None) -> Cut:
    """Cut texts into windows of at most `max_tokens` tokens, special tokens among them.

    Raises: ConfigError when the base has no tokeniser that knows where its pieces stand, or too few positions.
    """
    tokeniser = _tokeniser(base, max_tokens)
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    counted: list[bool] = []
    lengths: list[int] = []
    windows: list[int] = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        few = list(texts[start : start + _TEXTS_AT_ONCE])
        encoded = tokeniser(
            few, truncation=True, max_length=max_tokens, stride=max_tokens // OVERLAP_SHARE, padding=False,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True,
        )  # fmt: skip
        owners: list[int] = [int(owner) for owner in encoded["overflow_to_sample_mapping"]]
        windows += np.bincount(owners, minlength=len(few)).tolist()
        for place, owner in enumerate(owners):
            edges = place > 0 and owners[place - 1] == owner, place + 1 < len(owners) and owners[place + 1] == owner
            ids += encoded["input_ids"][place]
            spans += encoded["offset_mapping"][place]
            counted += _counted(encoded["special_tokens_mask"][place], edges, max_tokens // OVERLAP_SHARE)
            lengths.append(len(encoded["input_ids"][place]))
        if progress is not None:
            progress(len(windows), len(texts))
    return Cut(
        ids=np.asarray(ids, dtype=np.int32),
        offsets=_from_zero(lengths),
        firsts=_from_zero(windows),
        spans=np.asarray(spans, dtype=np.int32).reshape(-1, 2),
        counted=np.asarray(counted, dtype=np.bool_),
        pad_id=int(tokeniser.pad_token_id or 0),
    )


def _counted(special: Sequence[int], edges: tuple[bool, bool], overlap: int) -> Iterator[bool]:
    """Which tokens of a window count; `edges`: whether the text goes on before it, and after it."""
    before, after = edges
    content = len(special) - sum(special)
    low = overlap // 2 if before else 0
    high = content - (overlap - overlap // 2) if after else content
    place = -1
    for mark in special:
        place += not mark
        yield not mark and low <= place < high


def _from_zero(counts: Sequence[int]) -> Indices:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _tokeniser(base: Base, max_tokens: int) -> Any:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(str(base.folder), local_files_only=True, trust_remote_code=False)
    check_positions(config, max_tokens)
    tokeniser = AutoTokenizer.from_pretrained(str(base.folder), local_files_only=True, trust_remote_code=False)
    if not tokeniser.is_fast:
        raise ConfigError(f"model.base {base.name}", expected="a fast tokeniser, for offsets", found="a slow one")
    return tokeniser
