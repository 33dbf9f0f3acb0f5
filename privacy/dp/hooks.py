"""The hooks that take one backward pass apart by record, on Opacus's base class.

While a batch runs, trainable layers compute with their parameters as constants, so that autograd spends nothing on sums
that nobody may see; a tap on each layer's output takes the output's gradient as it passes. Outside a batch the hooks do
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from opacus.grad_sample import (
    GradSampleHooks,
    compute_embedding_grad_sample,
    compute_layer_norm_grad_sample,
    compute_linear_grad_sample,
)
from torch import Tensor, nn

from privacy.dp.bookkeeping import (
    InnerProducts,
    LinearTrace,
    NormMode,
    Trace,
    Units,
    embedding_trace,
    keeps_ghost,
)
from privacy.dp.layers import trainable_leaves
from privacy.errors import TrainingError

_GradSampler = Callable[[Any, list[Tensor], Tensor], dict[nn.Parameter, Tensor]]


def _embedding_grad_sample(
    layer: nn.Embedding, activations: list[Tensor], backprops: Tensor
) -> dict[nn.Parameter, Tensor]:
    """Opacus's, but nothing for the padding row, which autograd leaves alone and Opacus does not."""
    samples: dict[nn.Parameter, Tensor] = compute_embedding_grad_sample(layer, activations, backprops)
    if layer.padding_idx is not None:
        for sample in samples.values():
            sample[:, layer.padding_idx] = 0
    return samples


class _Tap(torch.autograd.Function):
    """The identity; hands the gradient that passes to `take`. `anchor` makes the output part of the graph.

    What it returns shares the layer's memory and is no view of it: autograd would copy a view's gradient three times,
    and refuses to let one be changed in place.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, _anchor: Tensor, take: Callable[[Tensor], None]) -> Tensor:
        ctx.take = take
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        take, ctx.take = ctx.take, None  # the graph outlives its pass; what `take` holds of a record shall not
        take(gradients[0])
        return gradients[0], None, None


class RecordHooks(GradSampleHooks):  # type: ignore[misc]
    """Opacus's hooks on a plain module, for the supported layers only, with the summed loss.

    After a pass `traces` holds what large layers left, each with the squared norms of the batch's units; `grad_sample`
    of a parameter holds the per-record gradients of the others, float32 (B, ...). A parameter that a forward pass uses
    several times (tied weights, a layer called twice) is always one of the latter: its uses' gradients are added up
    before any norm is taken. That costs B times its size, for that parameter alone.

    Guarantees: `clear` leaves no activations, traces or per-record gradients behind, whatever was interrupted.
    """

    GRAD_SAMPLERS: ClassVar[dict[type[nn.Module], _GradSampler]] = {
        nn.Linear: compute_linear_grad_sample,
        nn.Embedding: _embedding_grad_sample,
        nn.LayerNorm: compute_layer_norm_grad_sample,
    }

    def __init__(self, model: nn.Module, mode: NormMode = NormMode.AUTO) -> None:
        self._names = {p: n for n, p in model.named_parameters() if p.requires_grad}
        self._leaves = list(dict.fromkeys(leaf for _, leaf in trainable_leaves(model)))
        self._trained = {leaf: [p for p in leaf.parameters(recurse=False) if p.requires_grad] for leaf in self._leaves}
        self._mode = mode
        self._anchor = torch.zeros((), requires_grad=True)
        self._inner = InnerProducts()
        self._units: Units | None = None
        self._last_inputs: tuple[Tensor, Tensor] | None = None
        self._last_tokens: tuple[Tensor, Tensor] | None = None
        self._taken: set[nn.Parameter] = set()
        self.traces: list[tuple[Trace, Tensor]] = []
        # Opacus's strict check refuses harmless buffers as well; `refuse_unsupported` has looked already.
        super().__init__(model, batch_first=True, loss_reduction="sum", strict=False)

    def add_hooks(
        self,
        *,
        loss_reduction: str = "sum",  # noqa: ARG002
        batch_first: bool = True,  # noqa: ARG002
        force_functorch: bool = False,  # noqa: ARG002
    ) -> None:
        """Puts the hooks on. Opacus's constructor calls it, with options that this class has fixed."""
        handles: list[Any] = []
        for leaf in self._leaves:
            handles.append(leaf.register_forward_pre_hook(self._before_forward))
            handles.append(leaf.register_forward_hook(self._after_forward))
        self._module.autograd_grad_sample_hooks = self.autograd_grad_sample_hooks = handles
        self.enable_hooks()

    def is_training(self) -> bool:
        """Whether every trainable leaf is in training mode."""
        return all(leaf.training for leaf in self._leaves)

    def begin(self, units: Units) -> None:
        """From here to `clear`, forward passes are recorded as those of a batch of these units."""
        self._units = units

    def refuse_bare_gradients(self) -> None:
        """Returns only if no parameter met the loss outside its own layer: there alone autograd computes a gradient.

        Raises: TrainingError that names the parameter.
        """
        for parameter, name in self._names.items():
            if parameter.grad is not None:
                raise TrainingError(
                    f"trainable parameter {name} is used outside its layer",
                    expected="every use through its own Linear, Embedding or LayerNorm",
                    remedy="tie layers, not functions, or freeze it",
                )

    def clear(self) -> None:
        """Drops everything that one forward and backward pass left on leaves and parameters, `grad` included."""
        self._units = self._last_inputs = self._last_tokens = None
        self._inner.forget()
        self._taken.clear()
        self.traces = []
        for parameters in self._trained.values():
            for parameter in parameters:
                parameter.requires_grad_(True)
                parameter.grad = None
                parameter.grad_sample = None  # type: ignore[attr-defined]
                parameter._forward_counter = 0  # type: ignore[attr-defined]

    def _before_forward(self, leaf: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._units is None or not torch.is_grad_enabled():
            return
        name = self._names[self._trained[leaf][0]]
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            raise TrainingError(
                f"the layer of {name} was not called with one tensor", remedy="pass its input by position"
            )
        if inputs[0].dim() < 1 or len(inputs[0]) != len(self._units.rows):
            raise TrainingError(
                f"per-record gradients of {name}",
                expected=f"an input of {len(self._units.rows)} rows, one for each record",
                found=f"shape {tuple(inputs[0].shape)}",
                remedy="feed every trainable layer (batch, ...) tensors, position_ids and token_type_ids included, or "
                "freeze this one",
            )
        for parameter in self._trained[leaf]:
            if parameter in self._taken:  # its uses were counted, and its norm may be made
                raise TrainingError(
                    f"trainable parameter {self._names[parameter]} was used again after a backward pass",
                    expected="one backward pass of each batch, after all forward passes",
                    remedy="return the losses, without a backward pass or checkpointing of your own",
                )
            parameter._forward_counter += 1  # type: ignore[attr-defined]
            parameter.requires_grad_(False)

    def _after_forward(self, leaf: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self._units is None or not torch.is_grad_enabled():
            return None
        for parameter in self._trained[leaf]:
            parameter.requires_grad_(True)
        kept = self._shared(inputs[0])
        take = partial(self._take, leaf, kept, kept._version, self._units)
        tapped: Tensor = _Tap.apply(output, self._anchor, take)  # type: ignore[no-untyped-call]
        return tapped

    def _shared(self, inputs: Tensor) -> Tensor:
        """`inputs`, detached; the same object for layers that are fed the same one after the other."""
        if self._last_inputs is None or self._last_inputs[0] is not inputs:
            self._last_inputs = inputs, inputs.detach()
        return self._last_inputs[1]

    def _take(self, leaf: nn.Module, inputs: Tensor, version: int, units: Units, gradients: Tensor) -> None:
        if inputs._version != version:
            name = self._names[self._trained[leaf][0]]
            raise TrainingError(
                f"the input of the layer of {name} was changed in place after its use", remedy="change a copy"
            )
        gradients = gradients.detach()
        self._taken.update(self._trained[leaf])
        several = any(p._forward_counter > 1 for p in self._trained[leaf])  # type: ignore[attr-defined]
        if several:
            self._instantiate(leaf, inputs, gradients)
        elif isinstance(leaf, nn.Embedding) and self._mode is not NormMode.INSTANTIATE:
            self._keep(embedding_trace(leaf, inputs, gradients.to(torch.float32), units))
        elif isinstance(leaf, nn.Linear) and self._keeps_ghost(leaf, inputs):
            self._keep(
                LinearTrace(
                    layer=leaf,
                    inputs=self._by_token(inputs),
                    outputs=_by_token(gradients),
                    units=units,
                    inner=self._inner,
                )
            )
        else:
            self._instantiate(leaf, inputs, gradients)

    def _instantiate(self, leaf: nn.Module, inputs: Tensor, gradients: Tensor) -> None:
        for parameter, sample in self.GRAD_SAMPLERS[type(leaf)](leaf, [_real(inputs)], _real(gradients)).items():
            held: Tensor | None = parameter.grad_sample  # type: ignore[attr-defined]
            # Out of place: a bias's sample may be the very gradient that passes on, to several uses.
            parameter.grad_sample = sample if held is None else held + sample  # type: ignore[attr-defined]

    def _keeps_ghost(self, leaf: nn.Linear, inputs: Tensor) -> bool:
        tokens = inputs.numel() // max(1, len(inputs) * leaf.in_features)
        return keeps_ghost(self._mode, tokens, leaf.out_features, leaf.in_features)

    def _by_token(self, inputs: Tensor) -> Tensor:
        """(B, ..., d) to float32 (B, T, d); the same object while the inputs are the same one."""
        if self._last_tokens is None or self._last_tokens[0] is not inputs:
            self._last_tokens = inputs, _by_token(inputs)
        return self._last_tokens[1]

    def _keep(self, trace: Trace) -> None:
        self.traces.append((trace, trace.squares(torch.float32)))


def _by_token(values: Tensor) -> Tensor:
    """(B, ..., d) to float32 (B, T, d)."""
    return _real(values).reshape(len(values), -1, values.shape[-1])


def _real(values: Tensor) -> Tensor:
    """float32, whatever autocast made of it; ids stay ids."""
    return values.to(torch.float32) if values.is_floating_point() else values
