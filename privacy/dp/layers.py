"""Which models can be trained privately: what is refused, by the layer's name, before training.

A per-record gradient is only what it claims to be where every record passes through the model on its own and every
trainable tensor is used by layers whose gradients can be told apart by record. Three kinds of layer do that for BERT,
LoRA and heads: Linear, Embedding and LayerNorm. Several of them may hold one parameter (tied weights), and one may
stand in several places. Anything else that trains is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from privacy.errors import TrainingError

_KINDS = (nn.Embedding, nn.LayerNorm, nn.Linear)


def refuse_unsupported(model: nn.Module) -> None:
    """Returns only if per-record gradients of every trainable parameter of `model` can be exact.

    Raises: TrainingError that names the layer: a trainable layer other than Linear, Embedding and LayerNorm, or one
    with an option that breaks the rule; batch statistics anywhere; two trainable parameters over one storage, or one
    that is weight and bias of a layer; gradient checkpointing; or nothing to train at all.
    """
    if hasattr(model, "autograd_grad_sample_hooks"):
        raise TrainingError("the model is hooked already", remedy="close the private step before")
    leaves = list(trainable_leaves(model))
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


def trainable_leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that own a trainable parameter, under every name that they have."""
    for name, module in model.named_modules(remove_duplicate=False):
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            yield name or "(the model itself)", module


def _refuse_leaf(name: str, leaf: nn.Module) -> None:
    kind = type(leaf)
    if kind not in _KINDS:
        raise TrainingError(
            f"trainable layer {name} is not supported",
            expected=", ".join(k.__name__ for k in _KINDS),
            found=kind.__name__,
            remedy="freeze it or replace it",
        )
    strange = {n for n, _ in leaf.named_parameters(recurse=False)} - {"weight", "bias"}
    if strange or list(leaf.buffers()):
        raise TrainingError(f"trainable layer {name} is not a plain {kind.__name__}", remedy="remove what was added")
    if "forward" in vars(leaf) or leaf._forward_hooks or leaf._forward_pre_hooks:
        raise TrainingError(
            f"trainable layer {name} has a hook or a forward method of its own",
            expected=f"what {kind.__name__} computes",
            remedy="remove it for the round",
        )
    if isinstance(leaf, nn.Embedding) and (leaf.max_norm is not None or leaf.scale_grad_by_freq or leaf.sparse):
        raise TrainingError(
            f"trainable layer {name}: max_norm, scale_grad_by_freq and sparse are not supported",
            remedy="build the Embedding without them",
        )
    if isinstance(leaf, nn.LayerNorm) and leaf.bias is None:
        raise TrainingError(f"trainable layer {name}: LayerNorm without bias is not supported", remedy="give it a bias")


def _refuse_sharing(leaves: list[tuple[str, nn.Module]]) -> None:
    owner: dict[int, tuple[str, nn.Parameter, nn.Module, str]] = {}
    for name, leaf in leaves:
        for own_name, parameter in leaf.named_parameters(recurse=False, remove_duplicate=False):
            if not parameter.requires_grad or parameter.numel() == 0:
                continue
            here = f"{name}.{own_name}", parameter, leaf, own_name
            there, same, other_leaf, other_name = owner.setdefault(parameter.untyped_storage().data_ptr(), here)
            if same is not parameter or (other_leaf is leaf and other_name != own_name):
                raise TrainingError(
                    f"trainable parameter {name}.{own_name} shares its memory with {there}",
                    expected="one parameter in both layers, or a tensor for each",
                    remedy="tie or untie them, or freeze it",
                )
