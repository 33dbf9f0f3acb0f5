"""The model folder: loads with stock classes, predicts as the training code did, and is whole or not there."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from learning.artefact import About, Predictor, export_model, read_about
from learning.base import Base, open_base
from learning.examples import TokenExamples, load_tokeniser, tokenise
from learning.model import build_classifier, get_state, set_state
from learning.options import ModelPlan, Tune
from learning.training import predict_logits
from privacy.errors import ConfigError, ProtocolError
from tests.learning.tiny import model_plan
from tests.tiny_base import TinyBase

TEXTS = ["heart pain", "", "calm mild severe left right note seen today " * 5, "skin", "lung 7 chest"]
MAX_TOKENS = 24


@pytest.fixture(scope="module")
def base(tiny_base: TinyBase) -> Base:
    return open_base(tiny_base.folder, "tiny")


def _about(base: Base, tune: Tune = Tune.HEAD) -> About:
    return About(
        labels=("calm", "ill", "élan"),
        max_tokens=MAX_TOKENS,
        base=base.name,
        base_sha256=base.sha256,
        tune=tune,
        job_name="a job",
        job_digest="d" * 64,
        protections={"differential_privacy": True, "secure_aggregation": False},
    )


def _trained_state(plan: ModelPlan) -> dict[str, np.ndarray]:
    """As after a training: every tuned number moved, the zeros of the head and of LoRA's B among them."""
    rng = np.random.default_rng(0)
    start = get_state(build_classifier(plan))
    return {name: value + rng.normal(scale=0.2, size=value.shape).astype(np.float32) for name, value in start.items()}


def _training_codes_logits(plan: ModelPlan, state: dict[str, np.ndarray]) -> np.ndarray:
    model = build_classifier(plan)
    set_state(model, state)
    encode, pad = load_tokeniser(plan.base, MAX_TOKENS)
    ids, offsets = tokenise(TEXTS, encode)
    nothing = np.zeros(len(TEXTS), dtype=np.int64)
    return predict_logits(model, TokenExamples(ids, offsets, nothing, nothing, pad))


@pytest.fixture
def folder(base: Base, tmp_path: Path) -> Path:
    plan = model_plan(base)
    export_model(tmp_path / "model", plan, _trained_state(plan), _about(base))
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("tune", "embeddings"), [(Tune.HEAD, False), (Tune.LORA, False), (Tune.FULL, False), (Tune.FULL, True)]
)
def test_the_folder_predicts_as_the_training_code_did(base: Base, tmp_path: Path, tune: Tune, embeddings: bool) -> None:
    plan = model_plan(base, tune, train_embeddings=embeddings, dropout=0.1)
    state = _trained_state(plan)
    expected = _training_codes_logits(plan, state)
    found = export_model(tmp_path / "model", plan, state, _about(base, tune))
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert found == hashlib.sha256(weights).hexdigest()
    predictor = Predictor(tmp_path / "model")
    assert expected.std(axis=0).min() > 0.01
    assert np.abs(predictor.logits(TEXTS) - expected).max() < 1e-5
    assert np.abs(predictor.logits(TEXTS[::-1])[::-1] - expected).max() < 1e-5
    plain = load_file(base.folder / "model.safetensors")
    kept = load_file(tmp_path / "model" / "model.safetensors")
    assert sorted(kept) == sorted(plain)  # no adapter's name is left
    changed = {name for name in plain if not np.array_equal(plain[name], kept[name])}
    assert bool(changed) == (tune is not Tune.HEAD)
    assert tune is not Tune.LORA or all("query.weight" in name or "value.weight" in name for name in changed)


@pytest.mark.parametrize("tune", Tune)
def test_stock_classes_and_the_cards_recipe_give_the_same_logits(base: Base, tmp_path: Path, tune: Tune) -> None:
    """AutoModel, AutoTokenizer and numpy alone, by what the card says: mean over the mask, norm sqrt(d), linear."""
    from transformers import AutoModel, AutoTokenizer

    plan = model_plan(base, tune)
    state = _trained_state(plan)
    export_model(tmp_path / "model", plan, state, _about(base, tune))
    encoder = AutoModel.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    batch = tokenizer(TEXTS, truncation=True, max_length=MAX_TOKENS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(**batch).last_hidden_state.numpy().astype(float)
    mask = batch["attention_mask"].numpy()[..., None]
    vectors = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    vectors *= np.sqrt(vectors.shape[1]) / np.linalg.norm(vectors, axis=1, keepdims=True)
    head = load_file(tmp_path / "model" / "head.safetensors")
    logits = vectors @ head["linear.weight"].T + head["linear.bias"]
    assert np.abs(logits - _training_codes_logits(plan, state)).max() < 1e-5


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], dtype=np.float32)
    assert Predictor.probabilities_of(logits) == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]), abs=1e-6)


def test_the_folder_is_private_and_says_what_it_is(folder: Path, base: Base) -> None:
    assert read_about(folder) == _about(base)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "head.safetensors", "cloister.json", "README.md"} <= set(files)
    assert set(files.values()) == {0o600}
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in ("calm, ill, élan", base.sha256, "d" * 64, "on: differential privacy; off: secure aggregation"):
        assert said in card
    assert str(base.folder) not in "".join(p.read_text(errors="ignore") for p in folder.iterdir())


def test_a_folder_that_is_there_is_refused_and_stays(folder: Path, base: Base) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    plan = model_plan(base)
    with pytest.raises(ConfigError, match="a folder that is not there yet; found one that is"):
        export_model(folder, plan, _trained_state(plan), _about(base))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_a_state_of_another_plan_is_refused_and_nothing_is_written(base: Base, tmp_path: Path) -> None:
    other = _trained_state(model_plan(base, Tune.LORA))
    for plan in (model_plan(base), model_plan(base, Tune.FULL)):
        with pytest.raises(ProtocolError):
            export_model(tmp_path / "model", plan, other, _about(base))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["learning.tasks.classify.save_file", "os.fsync"])
def test_an_export_that_is_stopped_half_way_leaves_nothing(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    plan = model_plan(base)
    state = _trained_state(plan)
    monkeypatch.setattr(where, fail)
    with pytest.raises(OSError, match="disk full"):
        export_model(tmp_path / "model", plan, state, _about(base))
    assert list(tmp_path.iterdir()) == []


def _spoil_about(folder: Path, change: dict[str, object]) -> None:
    values = json.loads((folder / "cloister.json").read_text(encoding="utf-8"))
    values = {name: value for name, value in {**values, **change}.items() if value is not None}
    (folder / "cloister.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"labels": None}, "labels"),
        ({"labels": []}, "labels"),
        ({"labels": "calm"}, "labels"),
        ({"labels": [1, 2, 3]}, "labels"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "24"}, "max_tokens"),
        ({"tune": "all"}, "tune"),
        ({"protections": {"dp": "yes"}}, "protections"),
        ({"surprise": 1}, "surprise"),
        ({"format": 2}, "format"),
    ],
)
def test_a_malformed_description_is_refused_by_its_key(folder: Path, change: dict[str, object], named: str) -> None:
    _spoil_about(folder, change)
    with pytest.raises(ConfigError, match=rf"cloister\.json.*{named}"):
        Predictor(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"labels": NaN}'])
def test_a_description_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "cloister.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cloister\.json; expected what Cloister writes"):
        read_about(folder)


@pytest.mark.parametrize("missing", ["cloister.json", "head.safetensors", "config.json", "model.safetensors"])
def test_a_folder_with_a_file_missing_is_refused_by_that_file(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=rf"{missing}; found none"):
        Predictor(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a model folder with cloister\.json; found none"):
        Predictor(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("linear.weight", np.zeros((3, 31), np.float32)),
        ("linear.weight", np.zeros((2, 32), np.float32)),
        ("linear.bias", np.full(3, np.nan, np.float32)),
        ("linear.extra", np.zeros(3, np.float32)),
    ],
)
def test_a_head_that_does_not_fit_is_refused(folder: Path, name: str, value: np.ndarray) -> None:
    head = load_file(folder / "head.safetensors")
    save_file({**head, name: value}, folder / "head.safetensors")
    with pytest.raises(ConfigError, match=r"head\.safetensors"):
        Predictor(folder)


def test_a_head_that_is_no_safetensors_file_is_refused(folder: Path) -> None:
    for content in (b"", b"\x80\x04pickle", b"\xff" * 64):
        (folder / "head.safetensors").write_bytes(content)
        with pytest.raises(ConfigError, match=r"head\.safetensors; expected a safetensors file"):
            Predictor(folder)


@pytest.mark.model
def test_minilm_goes_out_and_comes_back_as_it_predicts(tmp_path: Path) -> None:
    from learning.base import find_base

    plan = model_plan(find_base("minilm"), Tune.HEAD)
    state = _trained_state(plan)
    export_model(tmp_path / "model", plan, state, _about(plan.base))
    assert np.abs(Predictor(tmp_path / "model").logits(TEXTS) - _training_codes_logits(plan, state)).max() < 1e-5
