"""The coordinator's memory does not grow with the number of sites: the benchmark itself, on few sites and one layer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.memory import _status, model_bytes

VOCABULARY = 60_000


def make_wide_base(folder: Path) -> Path:
    """One layer under a large vocabulary: 61 MB, trained in no time and far above the noise of a process's size."""
    import torch
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "note", *map(str, range(200))]
    words += [f"w{number}" for number in range(VOCABULARY - len(words))]
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf-8")
    return folder


def test_a_model_is_counted_as_a_message_carries_it(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((3, 4), dtype=np.float16), "b": np.zeros(5, dtype=np.int64)}
    save_file({**tensors, "pooler.dense.weight": np.zeros(7, dtype=np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert model_bytes(str(tmp_path)) == 4 * 12


def test_a_process_s_memory_is_read_in_bytes() -> None:
    before = _status(os.getpid())
    kept = np.ones(50_000_000, dtype=np.uint8)
    after = _status(os.getpid())
    assert 40e6 < after["RssAnon"] - before["RssAnon"] < 60e6 and kept[-1] == 1
    assert after["VmHWM"] >= after["RssAnon"]
    assert _status(2**31 - 1) == {}


@pytest.mark.full
def test_ten_sites_need_no_more_memory_than_four(tmp_path: Path) -> None:
    """Four are the fewest that keep the window of three messages full.

    While one answer is read, two may wait: how many do at the peak is a matter of timing, and what they take is all
    that may differ. Six more answers held would be six models.
    """
    from benchmarks.memory import measure

    report = measure([4, 10], str(make_wide_base(tmp_path / "base")), peer=False)
    assert report["model_mb"] > 60
    assert report["largest_minus_smallest_mb"] < 2.5 * report["model_mb"], report["rows"]
