"""The tagger: a BERT encoder and a linear head on each token's last hidden vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learning.entities import UNCOUNTED, Entity, runs_of
from learning.examples import by_length
from learning.model import Head, contiguous_positions, encoder_width, tuned_encoder
from learning.options import ModelPlan
from learning.tasks.tag_examples import Cut, TagExamples, tag_examples
from learning.training import pick_device
from privacy.errors import TrainingError

_AT_ONCE = 32


class TagHead(Head):
    """Linear tagger of tokens, float32 (B, L, d) -> logits float32 (B, L, K).

    The vectors are multiplied by `scale`, one constant of the base, so that their entries are of order one; a constant
    can be multiplied into the weights, and then this is the head of transformers' token classifiers.
    """

    def __init__(self, width: int, outputs: int, dropout: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(width, outputs, dropout)
        self.scale = scale

    def forward(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(vectors.float() * self.scale))
        return logits


class Tagger(nn.Module):
    """Encoder and head: token ids int64 (B, L), mask int64 (B, L) -> logits float32 (B, L, K)."""

    def __init__(self, encoder: nn.Module, head: TagHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, **inputs: Tensor) -> Tensor:
        found = self.encoder(**inputs, **contiguous_positions(self.encoder, inputs))
        logits: Tensor = self.head(found.last_hidden_state)
        return logits


def build_tagger(plan: ModelPlan) -> Tagger:
    """A fresh tagger with the parts that are not tuned frozen."""
    encoder = tuned_encoder(plan)
    return Tagger(encoder, TagHead(encoder_width(plan.base), plan.labels, plan.dropout, scale_of(encoder)))


def scale_of(encoder: nn.Module) -> float:
    """What brings a fresh encoder's last hidden vectors to entries of order one; the same at every site.

    One over the root mean square of its last LayerNorm's output, mean(w^2 + b^2) over standardised inputs.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    if not norms:
        return 1.0
    weight, bias = norms[-1].weight.detach().double(), norms[-1].bias.detach().double()
    return float((weight.square() + bias.square()).mean().clamp_min(1e-6).rsqrt())


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A tagger's answer to each piece: the best tag int16 (P,), its probability and the loss in nats, float32 (P,).

    The loss is zero for pieces that do not count, or where no tags were given.
    """

    best: NDArray[np.int16]
    confidence: NDArray[np.float32]
    losses: NDArray[np.float32]


def answers(model: nn.Module, examples: TagExamples) -> Answers:
    """What a tagger says of each piece, in evaluation mode, in the order of the flat ids.

    Raises: TrainingError when a logit is not finite.
    """
    device, count = pick_device(), len(examples.ids)
    model.to(device).eval()
    best, confidence = np.zeros(count, dtype=np.int16), np.zeros(count, dtype=np.float32)
    losses = np.zeros(count, dtype=np.float32)
    with torch.inference_mode():
        for indices in by_length(examples, np.arange(len(examples), dtype=np.int64), _AT_ONCE):
            logits = model(**examples.inputs(indices, device)).float()
            tags = examples.tags_of(indices, logits.shape[1]).to(device)
            missed = functional.cross_entropy(
                logits.transpose(1, 2), tags, reduction="none", ignore_index=UNCOUNTED
            ).cpu()
            chances = torch.softmax(logits, dim=-1).max(dim=-1)
            for row, index in enumerate(indices):
                place = slice(int(examples.offsets[index]), int(examples.offsets[index + 1]))
                length = place.stop - place.start
                if not bool(torch.isfinite(logits[row, :length]).all()):
                    raise TrainingError("the model returned logits that are not finite", remedy="lower the step size")
                best[place] = chances.indices[row, :length].cpu().numpy()
                confidence[place] = chances.values[row, :length].cpu().numpy()
                losses[place] = missed[row, :length].numpy()
    return Answers(best=best, confidence=confidence, losses=losses)


def find_entities(model: nn.Module, cut: Cut) -> list[list[Entity]]:
    """The entities that a tagger finds in each text, strictly read (`runs_of`); offsets are the text's own."""
    examples = tag_examples(cut, [()] * cut.texts, np.arange(cut.texts, dtype=np.int64))
    best = answers(model, examples).best
    found: list[list[Entity]] = []
    for text in range(cut.texts):
        place = cut.pieces(text)
        counted = cut.counted[place]
        spans, tags = cut.spans[place][counted], best[place][counted]
        found.append([Entity(int(spans[a, 0]), int(spans[b - 1, 1]), kind) for a, b, kind in runs_of(tags)])
    return found
