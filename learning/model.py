"""The text classifier: a BERT encoder, the mean of its token vectors, a linear head; and which part of it is tuned.

A tuned part is exchanged as a *state*: a mapping from sorted parameter names (`head.linear.weight`,
`encoder.encoder.layer.0...`) to float32 arrays. Everything else comes from the base that both ends hold, named by
hash, or is drawn from the seed that both ends know.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning.base import Base
from learning.options import ModelPlan, Tune
from privacy.dp.stream import SecureStream
from privacy.errors import ProtocolError, TrainingError

State = dict[str, NDArray[np.float32]]
HEAD_PREFIX = "head."
PADDED_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})
"""Model types whose positions count from the padding id on."""
LABEL_SCALE = 20.0
"""What a cosine is multiplied by to be a logit (Reimers and Gurevych's library sentence-transformers has the same)."""
_ABSOLUTE_POSITIONS = frozenset({"bert", "electra", "ernie", "roberta", "xlm-roberta", "camembert"})


class Head(nn.Module):
    """Linear classifier on a pooled sentence vector, float32 (B, d) -> logits float32 (B, K).

    The vector is scaled to the norm sqrt(d), so that its entries are of order one whatever the encoder, and so that
    one record's gradient is bounded before any clip. The weights start at zero, or from the labels (`start_from`).
    """

    def __init__(self, width: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def start_from(self, vectors: NDArray[np.float32]) -> None:
        """Begin with a vector for each label, (K, d): a text's first logits are its cosines with them, times 20.

        What the labels' names say is public: a model that begins there has spent nothing (measured in docs/privacy.md).
        """
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-6)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(unit * (LABEL_SCALE / vectors.shape[1] ** 0.5)))

    def forward(self, vectors: Tensor) -> Tensor:
        vectors = vectors.float()
        unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        logits: Tensor = self.linear(self.dropout(unit * vectors.shape[-1] ** 0.5))
        return logits


class Classifier(nn.Module):
    """Encoder and head: token ids int64 (B, L), mask int64 (B, L) -> logits float32 (B, K)."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, **inputs: Tensor) -> Tensor:
        positions = contiguous_positions(self.encoder, inputs)
        logits: Tensor = self.head(mean_of_tokens(self.encoder, {**inputs, **positions}))
        return logits


def contiguous_positions(encoder: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous positions and token types, (B, L), where the embeddings are tuned.

    Left to itself the encoder uses positions of batch size 1, from which no per-record gradient can be told
    (Opacus #841).
    """
    ids, config = inputs["input_ids"], cast(Any, encoder.config)
    if config.model_type not in _ABSOLUTE_POSITIONS or not _embeddings_tuned(encoder):
        return {}
    types = {"token_type_ids": torch.zeros_like(ids)} if config.type_vocab_size else {}
    if config.model_type in PADDED_POSITIONS:
        mask = inputs["attention_mask"]
        return {**types, "position_ids": torch.cumsum(mask, dim=1) * mask + int(config.pad_token_id)}
    return {**types, "position_ids": torch.arange(ids.shape[1], device=ids.device).expand_as(ids).contiguous()}


def mean_of_tokens(encoder: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Mean of the last hidden vectors over the tokens that the mask keeps, float32 (B, d)."""
    hidden = encoder(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    total: Tensor = (hidden * mask).sum(dim=1)
    return total / mask.sum(dim=1).clamp_min(1.0)


def load_encoder(base: Base, dropout: float = 0.0) -> nn.Module:
    """The encoder of a base model, without its pooler, in float32 and evaluation mode."""
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = AutoConfig.from_pretrained(str(base.folder), local_files_only=True, trust_remote_code=False)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
    options: dict[str, bool] = {"trust_remote_code": False}  # code in a model's folder never runs
    if config.model_type in {"bert", "roberta", "xlm-roberta", "camembert", "ernie", "mpnet"}:
        # A pooler would be an unused trainable layer: the head reads the mean of the tokens.
        options["add_pooling_layer"] = False
    encoder: nn.Module = AutoModel.from_pretrained(
        str(base.folder), config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32, **options
    )
    return encoder.eval()


def encoder_width(base: Base) -> int:
    """Width d of the encoder's token vectors."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(base.folder), local_files_only=True)
    return int(getattr(config, "hidden_size", None) or config.dim)


def build_head(plan: ModelPlan) -> Head:
    """A fresh head for cached sentence vectors."""
    return Head(encoder_width(plan.base), plan.labels, plan.dropout)


def build_classifier(plan: ModelPlan) -> Classifier:
    """A fresh classifier with the parts that are not tuned frozen. LoRA adapters are drawn from `plan.seed`."""
    head = Head(encoder_width(plan.base), plan.labels, plan.dropout)
    return Classifier(tuned_encoder(plan), head)


def tuned_encoder(plan: ModelPlan) -> nn.Module:
    """The base's encoder with the part that the plan tunes free and the rest frozen; without dropout if all of it is.

    LoRA adapters are drawn from `plan.seed`.
    """
    encoder = load_encoder(plan.base, 0.0 if plan.tune is Tune.HEAD else plan.dropout)
    encoder.requires_grad_(plan.tune is Tune.FULL)
    if plan.tune is Tune.FULL and not plan.train_embeddings:
        _embeddings(encoder).requires_grad_(False)
    return _with_adapters(encoder, plan) if plan.tune is Tune.LORA else encoder


def merged_encoder(encoder: nn.Module, plan: ModelPlan) -> Any:
    """The encoder as a plain model of its family: LoRA adapters are merged into it (Hu et al. 2021, section 4.1)."""
    return cast(Any, encoder).merge_and_unload() if plan.tune is Tune.LORA else encoder


def _embeddings_tuned(encoder: nn.Module) -> bool:
    return any("embeddings" in name for name, p in encoder.named_parameters() if p.requires_grad)


def _embeddings(encoder: nn.Module) -> nn.Module:
    embeddings = getattr(encoder, "embeddings", None)
    if not isinstance(embeddings, nn.Module):
        raise TrainingError("the base model", expected="a module named embeddings to freeze", found="none")
    return embeddings


def _with_adapters(encoder: nn.Module, plan: ModelPlan) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=plan.lora_rank, lora_alpha=plan.lora_alpha, lora_dropout=0.0, bias="none", target_modules=_targets(encoder)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        adapted: nn.Module = get_peft_model(encoder, config)
    if plan.lora_frozen_a:
        _freeze_a(adapted, plan.seed)
    return adapted


def _freeze_a(adapted: nn.Module, seed: int) -> None:
    """Draws A, uniform within 1 / sqrt(inputs), and freezes it (Sun et al. 2024, arXiv 2403.12313).

    A frozen A is never sent, so that all ends must draw the same one: not from torch's generator, which promises no
    bits across versions and machines, but from a stream that is defined by the byte.
    """
    stream = SecureStream(hashlib.sha256(b"cloister/v1/lora-a/" + str(seed).encode()).digest(), "lora-a")
    for name, parameter in sorted(adapted.named_parameters()):
        if ".lora_A." in name:
            uniform = 2.0 * stream.uniform(parameter.numel()) - 1.0
            drawn = (uniform / math.sqrt(parameter.shape[1])).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(drawn).view_as(parameter))
            parameter.requires_grad_(False)


def _targets(encoder: nn.Module) -> list[str]:
    """The query and value projections, by the names that the BERT family gives them (Hu et al. 2021, section 4.2)."""
    leaves = {name.rsplit(".", 1)[-1] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    for names in (["query", "value"], ["q_lin", "v_lin"], ["query_proj", "value_proj"], ["q", "v"]):
        if leaves.issuperset(names):
            return names
    raise TrainingError("model.tune lora", expected="query and value projections", found="none by a known name")


def get_state(model: nn.Module) -> State:
    """The tuned parameters as float32 arrays by sorted name; a bare `Head` gets the prefix it has in a classifier."""
    prefix = HEAD_PREFIX if isinstance(model, Head) else ""
    named = {prefix + name: p for name, p in model.named_parameters() if p.requires_grad}
    return {name: named[name].detach().to("cpu", torch.float32).numpy().copy() for name in sorted(named)}


def _float32(name: str, value: NDArray[np.float32], parameter: nn.Parameter) -> NDArray[np.float32]:
    """One array of a state. Raises: ProtocolError as `set_state`."""
    if tuple(parameter.shape) != value.shape:
        raise ProtocolError(name, expected=f"shape {tuple(parameter.shape)}", found=f"{value.shape}")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(value, dtype=np.float32)
    if not np.isfinite(array).all():
        raise ProtocolError(name, expected="finite numbers", found="some that are not")
    return array


def set_state(model: nn.Module, state: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a state into the tuned parameters.

    Raises: ProtocolError when names or shapes differ or a number is no finite float32; the model is then unchanged.
    """
    prefix = HEAD_PREFIX if isinstance(model, Head) else ""
    named = {prefix + name: p for name, p in model.named_parameters() if p.requires_grad}
    if sorted(named) != sorted(state):
        missing, extra = sorted(set(named) - set(state)), sorted(set(state) - set(named))
        raise ProtocolError(
            "the model's state", expected=f"{len(named)} arrays", found=f"missing {missing[:3]}, unknown {extra[:3]}"
        )
    for name, parameter in named.items():
        _float32(name, state[name], parameter)
    with torch.no_grad():
        for name, parameter in named.items():  # taken once more, as the state may lie where each is opened when taken
            parameter.copy_(torch.tensor(_float32(name, state[name], parameter)))
