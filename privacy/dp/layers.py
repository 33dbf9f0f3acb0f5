"""Which models can be trained privately: what is refused before training, and the per-record gradients of the rest.

A per-record gradient is only what it claims to be where every record passes through the model on its own and every
trainable tensor is used by exactly one module, once in a forward pass. Three kinds of layer do that for BERT, LoRA
and heads: Linear, Embedding and LayerNorm. Anything else that trains is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from opacus.grad_sample import (
    GradSampleHooks,
    compute_embedding_grad_sample,
    compute_layer_norm_grad_sample,
    compute_linear_grad_sample,
)
from torch import Tensor, nn

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


class RecordHooks(GradSampleHooks):  # type: ignore[misc]
    """Opacus's hooks on a plain module, for the three supported layers only, with the summed loss.

    Guarantees: `clear` leaves neither activations nor per-record gradients behind, whatever was interrupted.
    """

    GRAD_SAMPLERS: ClassVar[dict[type[nn.Module], _GradSampler]] = {
        nn.Linear: compute_linear_grad_sample,
        nn.Embedding: _embedding_grad_sample,
        nn.LayerNorm: compute_layer_norm_grad_sample,
    }

    def __init__(self, model: nn.Module) -> None:
        # Opacus's strict check refuses harmless buffers as well; `refuse_unsupported` has looked already.
        super().__init__(model, batch_first=True, loss_reduction="sum", strict=False)
        self._leaves = [leaf for _, leaf in _trainable_leaves(model)]

    def is_training(self) -> bool:
        """Whether every trainable leaf is in training mode: in evaluation mode Opacus records nothing."""
        return all(leaf.training for leaf in self._leaves)

    def clear(self) -> None:
        """Drops everything that one forward and backward pass left on leaves and parameters, `grad` included."""
        for leaf in self._leaves:
            for name in ("activations", "max_batch_len"):
                if hasattr(leaf, name):
                    delattr(leaf, name)
            for parameter in leaf.parameters(recurse=False):
                parameter.grad = None
                parameter.grad_sample = None  # type: ignore[attr-defined]
                parameter._forward_counter = 0  # type: ignore[attr-defined]


def refuse_unsupported(model: nn.Module) -> None:
    """Returns only if per-record gradients of every trainable parameter of `model` can be exact.

    Raises: TrainingError that names the layer: a trainable layer other than Linear, Embedding and LayerNorm, or one
    with an option that breaks the rule; batch statistics anywhere; a trainable tensor shared by two modules; gradient
    checkpointing; or nothing to train at all.
    """
    if hasattr(model, "autograd_grad_sample_hooks"):
        raise TrainingError("the model is hooked already", remedy="close the private step before")
    leaves = list(_trainable_leaves(model))
    if not leaves:
        raise TrainingError("the model has no trainable parameter", remedy="unfreeze a layer or add a head or adapter")
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise TrainingError(
                f"layer {name}: {type(module).__name__} mixes the records of a batch", remedy="use LayerNorm"
            )
        if getattr(module, "gradient_checkpointing", False):
            raise TrainingError(f"layer {name}: gradient checkpointing runs forward passes twice", remedy="turn it off")
    for name, leaf in leaves:
        _refuse_leaf(name, leaf)
    _refuse_sharing(leaves)


def _trainable_leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that own a trainable parameter, under every name that they have."""
    for name, module in model.named_modules(remove_duplicate=False):
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            yield name or "(the model itself)", module


def _refuse_leaf(name: str, leaf: nn.Module) -> None:
    kind = type(leaf)
    if kind not in RecordHooks.GRAD_SAMPLERS:
        raise TrainingError(
            f"trainable layer {name} is not supported",
            expected=", ".join(sorted(k.__name__ for k in RecordHooks.GRAD_SAMPLERS)),
            found=kind.__name__,
            remedy="freeze it or replace it",
        )
    strange = {n for n, _ in leaf.named_parameters(recurse=False)} - {"weight", "bias"}
    if strange or list(leaf.buffers()):
        raise TrainingError(f"trainable layer {name} is not a plain {kind.__name__}", remedy="remove what was added")
    if isinstance(leaf, nn.Embedding) and (leaf.max_norm is not None or leaf.scale_grad_by_freq or leaf.sparse):
        raise TrainingError(
            f"trainable layer {name}: max_norm, scale_grad_by_freq and sparse are not supported",
            remedy="build the Embedding without them",
        )
    if isinstance(leaf, nn.LayerNorm) and leaf.bias is None:
        raise TrainingError(f"trainable layer {name}: LayerNorm without bias is not supported", remedy="give it a bias")


def _refuse_sharing(leaves: list[tuple[str, nn.Module]]) -> None:
    owner: dict[int, str] = {}
    for name, leaf in leaves:
        for own_name, parameter in leaf.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter.numel() == 0:
                continue
            place = parameter.untyped_storage().data_ptr()
            if place in owner:
                raise TrainingError(
                    f"trainable parameter {name}.{own_name} is shared with {owner[place]}",
                    expected="every trainable tensor in one module",
                    remedy="untie or freeze it",
                )
            owner[place] = f"{name}.{own_name}"


def refuse_unfit_pass(names: dict[nn.Parameter, str]) -> None:
    """Returns only if the forward pass just made used each trainable parameter at most once.

    Not at all is allowed: its gradient is zero for each record, and refusing would tell which records came.

    Raises: TrainingError that names the parameter.
    """
    for parameter, name in names.items():
        uses: int = parameter._forward_counter  # type: ignore[attr-defined]
        if uses > 1:
            raise TrainingError(
                f"trainable parameter {name} was used {uses} times in one forward pass",
                expected="once",
                remedy="call the model once for each batch",
            )


def refuse_unfit_rows(parameter: nn.Parameter, name: str, records: int) -> None:
    """Returns only if `parameter` has one gradient row for each of `records` records, or took no part at all.

    Raises: TrainingError that names the parameter: its layer was fed something else than one row for each record, or it
    was used outside its layer alone.
    """
    sample: Tensor | None = parameter.grad_sample  # type: ignore[attr-defined]
    if sample is None and parameter.grad is None:
        return
    if sample is None or len(sample) != records:
        raise TrainingError(
            f"per-record gradients of {name}",
            expected=f"{records} rows",
            found="none" if sample is None else str(len(sample)),
            remedy="feed every trainable layer (batch, ...) tensors, position_ids and token_type_ids included",
        )


def adds_up(parameter: nn.Parameter, name: str) -> bool:
    """True once the per-record gradients of `parameter` were seen to add up to autograd's own sum.

    They do not where the tensor is used outside its layer as well. False where nothing was proved: the parameter took
    no part, or its gradient is zero or not finite.

    Raises: TrainingError that names the parameter where they do not add up.
    """
    sample: Tensor | None = parameter.grad_sample  # type: ignore[attr-defined]
    total = parameter.grad
    if sample is None or total is None or not torch.isfinite(total).all():
        return False
    # Loose on purpose: half-precision passes differ by a per cent of the rows' norms, a lost use by the whole.
    scale = sample.flatten(1).norm(dim=1, dtype=torch.float64).sum()
    excess = (sample.sum(dim=0, dtype=torch.float64) - total).norm()
    if excess > 0.05 * scale + 1e-6:
        raise TrainingError(f"trainable parameter {name} is used outside its layer", remedy="untie or freeze it")
    return bool(0 < scale < float("inf"))
