"""A random BERT that is small enough for a federated round in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WIDTH = 32
_TEXT = "alpha beta gamma delta chest heart lung skin bone pain calm mild severe left right note seen today"
WORDS = tuple(_TEXT.split())
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class TinyBase:
    """A base model's folder and the SHA-256 of its weights in hex."""

    folder: Path
    sha256: str


def make_tiny_base(folder: Path, seed: int = 7) -> TinyBase:
    """Write config, weights and a WordPiece tokeniser; the weights are drawn from `seed`."""
    import torch
    from transformers import BertConfig, BertModel

    vocabulary = [*_SPECIAL, *WORDS, *"0123456789", *(f"##{digit}" for digit in "0123456789")]
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf-8")
    return TinyBase(folder, hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def other_weights(base: TinyBase, folder: Path) -> TinyBase:
    """The same model with one weight changed: another base to whoever names it by hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in base.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    first = sorted(tensors)[0]
    tensors[first] = tensors[first] + np.float32(1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return TinyBase(folder, hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
