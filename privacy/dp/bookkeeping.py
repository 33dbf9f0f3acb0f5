"""What one backward pass leaves of each layer, enough for the norm of every unit and for the clipped sum.

Per-record gradients of a Linear layer with inputs a and output gradients g are sum_t g_t a_t^T. Their norms follow
from the tokens' inner products alone ("ghost norm"), sum_tt' (a_t . a_t') (g_t . g_t'), and once the clip factors are
known the clipped sum is one more product of the same a and g ("book-keeping"): no second backward pass, and nothing of
the size of records times parameters. Where a layer is small the gradients themselves are cheaper; the choice is
`keeps_ghost`'s. Embeddings keep one row for each token that a unit holds.

Source: Bu et al. 2022 (arXiv 2210.00038, book-keeping; 2205.10683, the rule that mixes ghost norms and instantiation);
Li et al. 2021 (2110.05679, ghost norms, also those of embeddings).

On rounding: products and sums are float32. A ghost norm can be far smaller than the terms that it sums, so the rounding
error that the terms can have made (Higham & Mary 2019, theorem 2.4) is added to it: a unit is clipped a trace more,
never less. The same is added where a Linear layer's norms come from the gradients but its sum from the tokens: records
of one unit that cancel have a norm of nothing, and the rounding of their terms in the sum would otherwise not be
clipped. Where the sum is made of the very gradients whose norms were taken there is nothing to add.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor, nn

_UNIT_ROUNDOFF = 2.0**-24
_ROUNDING_LAMBDA = 6.0  # fails with probability below 2 exp(-18) for each product
_SQUARES_IN_RANGE = 1e25  # beyond, products of float32 may have lost terms below its smallest number
_CHUNK_NUMBERS = 1 << 22  # float32 numbers of per-unit gradients that are held at a time for their norms alone


class NormMode(Enum):
    """How norms are got: by cost, or, for tests and comparisons, one way in every layer that has both."""

    AUTO = "auto"
    GHOST = "ghost"
    INSTANTIATE = "instantiate"


def keeps_ghost(mode: NormMode, tokens: int, outputs: int, inputs: int) -> bool:
    """Whether a Linear layer keeps inputs and output gradients rather than per-record gradients (Bu et al. 2022)."""
    if mode is NormMode.AUTO:
        return 2 * tokens**2 <= outputs * inputs
    return mode is NormMode.GHOST


class Units:
    """Which unit each record of a batch belongs to: `rows`, int64 (records,), numbers units from 0.

    Where each unit has one record, order is immaterial as long as it is the same everywhere: units are then numbered
    as their records are.
    """

    def __init__(self, rows: Tensor) -> None:
        counts = torch.bincount(rows)
        self.count = len(counts)
        self.alone = self.count == len(rows)
        self.rows = torch.arange(len(rows)) if self.alone else rows
        self._order, self._counts = torch.argsort(rows, stable=True), counts
        self._on: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """`rows` on a device."""
        if device not in self._on:
            self._on[device] = self.rows.to(device)
        return self._on[device]

    def by_size(self) -> list[tuple[Tensor, Tensor]]:
        """Units of equally many records m together: (units (n,), their records (n, m)), int64."""
        starts = torch.cumsum(self._counts, 0) - self._counts
        groups = []
        for size in torch.unique(self._counts).tolist():
            units = torch.nonzero(self._counts == size).flatten()
            groups.append((units, self._order[starts[units][:, None] + torch.arange(size)]))
        return groups


class Trace(Protocol):
    """One layer's part in one batch, kept until the clip factors are known."""

    def squares(self, dtype: torch.dtype) -> Tensor:
        """Squared gradient norm of each unit, float64 (units,), computed in `dtype`."""
        ...

    def add(self, factors: Tensor, kept: Tensor | None) -> None:
        """Adds each unit's gradient times its factor, float32 (units,), to `summed_grad` of the layer's parameters.

        `kept`: bool (units,), the units that count at all; None for all. The gradients of others are never touched:
        they may not be finite, and zero times infinity is not zero.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LinearTrace:
    """Inputs float32 (B, T, d) and output gradients float32 (B, T, p) of a Linear layer."""

    layer: nn.Linear
    inputs: Tensor
    outputs: Tensor
    units: Units
    inner: Callable[[Tensor], Tensor]
    """(B, T, d) to (B, T, T), remembering its last answer: query, key and value share their inputs."""

    def squares(self, dtype: torch.dtype) -> Tensor:
        parts = self.layer.weight.requires_grad, _trains_bias(self.layer)
        if self.units.alone:
            inner = self.inner if dtype == self.inputs.dtype else _inner
            return _ghost_squares(self.inputs.to(dtype), self.outputs.to(dtype), parts, inner)
        squares = torch.empty(self.units.count, dtype=torch.float64, device=self.inputs.device)
        for units, records in self.units.by_size():
            records = records.to(self.inputs.device)
            inputs = self.inputs[records].flatten(1, 2).to(dtype)
            outputs = self.outputs[records].flatten(1, 2).to(dtype)
            by_ghost = keeps_ghost(NormMode.AUTO, inputs.shape[1], outputs.shape[2], inputs.shape[2])
            squares[units.to(squares.device)] = (
                _ghost_squares(inputs, outputs, parts, _inner)
                if by_ghost
                else _instantiated_squares(inputs, outputs, parts)
            )
        return squares

    def add(self, factors: Tensor, kept: Tensor | None) -> None:
        rows = self.units.on(factors.device)
        weights, inputs, outputs = factors[rows], self.inputs, self.outputs
        if kept is not None:
            records = kept[rows]
            weights, inputs, outputs = weights[records], inputs[records], outputs[records]
        by_token = weights[:, None].expand(inputs.shape[:2]).reshape(-1)
        flat_outputs = outputs.reshape(-1, outputs.shape[2])
        if self.layer.weight.requires_grad:
            # The narrower side is scaled: less is copied.
            if inputs.shape[2] <= outputs.shape[2]:
                left, right = flat_outputs, (inputs * weights[:, None, None]).reshape(-1, inputs.shape[2])
            else:
                scaled = outputs * weights[:, None, None]
                left, right = scaled.reshape(flat_outputs.shape), inputs.reshape(-1, inputs.shape[2])
            sum_of(self.layer.weight).addmm_(left.t(), right)
        if _trains_bias(self.layer):
            sum_of(self.layer.bias).addmv_(flat_outputs.t(), by_token)


@dataclass(frozen=True, kw_only=True)
class EmbeddingTrace:
    """The rows of an Embedding's gradient that units touch: float32 (n, d), for `tokens` and `units_of`, int64 (n,)."""

    layer: nn.Embedding
    rows: Tensor
    tokens: Tensor
    units_of: Tensor
    count: int

    def squares(self, dtype: torch.dtype) -> Tensor:
        rows = self.rows.to(dtype).square().sum(dim=1).to(torch.float64)
        return torch.zeros(self.count, dtype=torch.float64, device=rows.device).index_add_(0, self.units_of, rows)

    def add(self, factors: Tensor, kept: Tensor | None) -> None:
        rows, tokens, units_of = self.rows, self.tokens, self.units_of
        if kept is not None:
            chosen = kept[units_of]
            rows, tokens, units_of = rows[chosen], tokens[chosen], units_of[chosen]
        sum_of(self.layer.weight).index_add_(0, tokens, rows * factors[units_of][:, None])


def embedding_trace(layer: nn.Embedding, ids: Tensor, outputs: Tensor, units: Units) -> EmbeddingTrace:
    """Adds up output gradients, float32 (B, ..., d), of equal ids, int64 (B, ...), inside each unit.

    Nothing is kept for the padding row, which autograd leaves alone as well.
    """
    owners = units.on(ids.device).view(-1, *[1] * (ids.dim() - 1)).expand_as(ids).reshape(-1)
    flat, values = ids.reshape(-1), outputs.reshape(-1, outputs.shape[-1])
    if layer.padding_idx is not None:
        real = flat != layer.padding_idx
        flat, owners, values = flat[real], owners[real], values[real]
    keys, places = torch.unique(owners * layer.num_embeddings + flat, return_inverse=True)
    rows = torch.zeros((len(keys), values.shape[1]), device=values.device).index_add_(0, places, values)
    return EmbeddingTrace(
        layer=layer,
        rows=rows,
        tokens=keys % layer.num_embeddings,
        units_of=torch.div(keys, layer.num_embeddings, rounding_mode="floor"),
        count=units.count,
    )


class InnerProducts:
    """Inner products of all pairs of tokens of each record; remembers the last tensor, by identity."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._products: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        if self._products is None or self._of is not tokens:
            self._of, self._products = tokens, _inner(tokens)
        return self._products

    def forget(self) -> None:
        """Drops the last answer."""
        self._of = self._products = None


def sum_of(parameter: Tensor) -> Tensor:
    """The parameter's float32 sum of the lot so far, zeros to begin with."""
    held: Tensor | None = parameter.summed_grad  # type: ignore[attr-defined]
    if held is None:
        held = torch.zeros(parameter.shape, device=parameter.device)
        parameter.summed_grad = held  # type: ignore[attr-defined]
    return held


def _trains_bias(layer: nn.Linear) -> bool:
    # A Linear layer may have no bias, whatever its annotation says.
    bias: Tensor | None = layer.bias
    return bias is not None and bias.requires_grad


def _inner(tokens: Tensor) -> Tensor:
    return torch.bmm(tokens, tokens.transpose(1, 2))


def _ghost_squares(
    inputs: Tensor, outputs: Tensor, parts: tuple[bool, bool], inner: Callable[[Tensor], Tensor]
) -> Tensor:
    """(n, T, d) and (n, T, p) to float64 (n,); `parts`: whether the weight and whether the bias are trained.

    The bias is a weight whose input is 1. Infinite where float32 could not hold what had to be summed.
    """
    weight, bias = parts
    right = _inner(outputs)
    left = inner(inputs) if weight else torch.zeros_like(right)
    left_lengths, right_lengths = (x.diagonal(dim1=1, dim2=2) for x in (left, right))
    lengths = ((left_lengths + 1.0 if bias else left_lengths) * right_lengths).sqrt().sum(dim=1, dtype=torch.float64)
    largest = torch.maximum(left_lengths.amax(dim=1), right_lengths.amax(dim=1))
    products = (left * right).sum(dim=(1, 2)).to(torch.float64)
    if bias:
        products = products + right.sum(dim=(1, 2))
    squares: Tensor = (products + _rounding(lengths, inputs, outputs)).clamp(min=0.0)
    if inputs.dtype == torch.float64:
        return squares
    return squares.masked_fill(~(largest < _SQUARES_IN_RANGE), float("inf"))


def _instantiated_squares(inputs: Tensor, outputs: Tensor, parts: tuple[bool, bool]) -> Tensor:
    """The same from the gradients themselves, a few units at a time."""
    weight, bias = parts
    left, right = (torch.linalg.vector_norm(x, dim=2, dtype=torch.float64) for x in (inputs, outputs))
    lengths = ((left.square() * weight + bias).sqrt() * right).sum(dim=1)
    squares = _rounding(lengths, inputs, outputs)
    if weight:
        step = max(1, _CHUNK_NUMBERS // (inputs.shape[2] * outputs.shape[2]))
        for start in range(0, len(inputs), step):
            few = slice(start, start + step)
            gradients = torch.bmm(outputs[few].transpose(1, 2), inputs[few])
            squares[few] += torch.linalg.vector_norm(gradients.flatten(1), dim=1, dtype=torch.float64).square()
    if bias:
        squares += torch.linalg.vector_norm(outputs.sum(dim=1), dim=1, dtype=torch.float64).square()
    return squares


def _rounding(lengths: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """What is added to squared norms; `lengths`: each unit's sum of the lengths of its tokens' terms, float64 (n,)."""
    error = _ROUNDING_LAMBDA * _UNIT_ROUNDOFF * (inputs.shape[2] + outputs.shape[2]) ** 0.5
    added: Tensor = lengths.square() * error
    return added
