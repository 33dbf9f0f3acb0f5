"""The classifier, clause by clause: the pooled vector, the head, what is tuned, and the state that is exchanged."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from learning.base import Base, open_base
from learning.examples import TokenExamples, load_tokeniser, tokenise
from learning.model import (
    Classifier,
    Head,
    build_classifier,
    build_head,
    contiguous_positions,
    encoder_width,
    get_state,
    load_encoder,
    mean_of_tokens,
    merged_encoder,
    set_state,
)
from learning.options import Tune
from learning.tasks.classify import CLASSIFY
from privacy.errors import ProtocolError, TrainingError
from tests.learning.tiny import FAMILIES, PAD, make_family, model_plan, token_examples
from tests.tiny_base import TinyBase

CPU = torch.device("cpu")
LENGTHS = [3, 32, 1, 9, 17]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    torch.set_num_threads(1)
    return {kind: make_family(tmp_path_factory.mktemp(kind), kind) for kind in FAMILIES}


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, families: dict[str, Base]) -> Base:
    return families[request.param]


def _examples(base: Base) -> TokenExamples:
    return token_examples(LENGTHS, PAD[base.name])


def _with_drawn_head(model: Classifier) -> Classifier:
    torch.manual_seed(3)
    nn.init.normal_(model.head.linear.weight)
    return model.eval()


def test_the_pooled_vector_is_the_mean_over_the_mask(base: Base) -> None:
    encoder, examples = load_encoder(base), _examples(base)
    everything = examples.inputs(np.arange(len(LENGTHS)), CPU)
    with torch.no_grad():
        found = mean_of_tokens(encoder, everything)
        hidden = encoder(**everything).last_hidden_state
    for row, length in enumerate(LENGTHS):
        slow = sum(hidden[row, position].double() for position in range(length)) / length
        assert torch.allclose(found[row].double(), slow, atol=1e-5)


def test_a_record_without_tokens_is_a_zero_vector_and_no_nan(families: dict[str, Base]) -> None:
    encoder = load_encoder(families["bert"])
    inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.int64), "attention_mask": torch.zeros(1, 2, dtype=torch.int64)}
    with torch.no_grad():
        assert torch.equal(mean_of_tokens(encoder, inputs), torch.zeros(1, 16))


def test_the_head_reads_the_vector_at_norm_sqrt_d() -> None:
    head = Head(4, 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]))
        head.linear.bias.copy_(torch.tensor([0.5, -0.5]))
    vectors = np.array([[3.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 1e3], [0.0, 0.0, 0.0, 0.0]])
    # |(3,0,4,0)| = 5, so the head sees (1.2, 0, 1.6, 0); the zero vector stays zero.
    expected = [[0.5 + 1.2 + 4.8, -0.5], [0.5 + 8.0, -0.5 + 2.0], [0.5, -0.5]]
    found = head(torch.from_numpy(vectors).half()).detach().numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("tune", Tune)
def test_the_first_model_says_nothing_whatever_the_seed(families: dict[str, Base], tune: Tune) -> None:
    model = build_classifier(model_plan(families["bert"], tune, seed=5)).eval()
    with torch.no_grad():
        logits = model(**_examples(families["bert"]).inputs(np.arange(5), CPU))
    assert (logits.shape, logits.dtype) == ((5, 3), torch.float32)
    assert torch.equal(logits, torch.zeros(5, 3))


LABELS = ("chest pain", "mild", "left lung seen today")
TEXTS = ("pain in the left lung", "severe skin", "mild", "note 7 8 9 seen today")


@pytest.mark.parametrize("tune", Tune)
def test_a_model_that_starts_from_its_labels_reads_a_text_by_its_cosine_with_them(
    tiny_base: TinyBase, tune: Tune
) -> None:
    base = open_base(tiny_base.folder, "tiny")
    model = CLASSIFY.start(replace(model_plan(base, tune, seed=5), label_texts=LABELS)).eval()
    encoder, (tokeniser, pad) = load_encoder(base), load_tokeniser(base, 32)

    def vector(text: str) -> Tensor:  # one text at a time, without padding
        with torch.no_grad():
            hidden: Tensor = encoder(input_ids=torch.tensor(tokeniser([text]))).last_hidden_state
        return hidden[0].double().mean(0)

    expected = [[20 * float(cosine_similarity(vector(text), vector(each), dim=0)) for each in LABELS] for text in TEXTS]
    ids, offsets = tokenise(TEXTS, tokeniser)
    rows = np.arange(len(TEXTS), dtype=np.int64)
    inputs = TokenExamples(ids, offsets, rows, rows, pad).inputs(rows, CPU)
    with torch.no_grad():
        found = model(mean_of_tokens(encoder, inputs)) if tune is Tune.HEAD else model(**inputs)
    assert np.allclose(found.numpy(), expected, atol=2e-4)
    assert found[2].argmax() == 1 and float(found[2, 1]) == pytest.approx(20, abs=1e-3)  # it says what its label says
    assert not get_state(model)["head.linear.bias"].any()


@pytest.mark.parametrize("tune", Tune)
def test_without_what_its_labels_say_a_model_starts_as_it_is_built(families: dict[str, Base], tune: Tune) -> None:
    plan = model_plan(families["bert"], tune)
    started, built = get_state(CLASSIFY.start(plan)), get_state(CLASSIFY.build(plan))
    assert all(np.array_equal(started[name], built[name]) for name in built) and started.keys() == built.keys()


def test_a_label_without_a_vector_starts_at_zero() -> None:
    head = Head(4, 2)
    head.start_from(np.array([[3.0, 0.0, 4.0, 0.0], [0.0] * 4], dtype=np.float32))
    assert head.linear.weight.tolist() == [[6.0, 0.0, 8.0, 0.0], [0.0] * 4]


def _tuned_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


HEAD = {"head.linear.weight", "head.linear.bias"}


def test_head_tunes_the_head_alone(base: Base) -> None:
    assert _tuned_names(build_classifier(model_plan(base, Tune.HEAD))) == HEAD
    assert set(get_state(build_head(model_plan(base)))) == HEAD


def test_full_tunes_every_layer_but_the_embeddings_unless_they_are_asked_for(base: Base) -> None:
    frozen = _tuned_names(build_classifier(model_plan(base, Tune.FULL)))
    trained = _tuned_names(build_classifier(model_plan(base, Tune.FULL, train_embeddings=True)))
    everything = {f"encoder.{name}" for name, _ in load_encoder(base).named_parameters()} | HEAD
    assert trained == everything
    embeddings = trained - frozen
    assert embeddings == {name for name in everything if name.startswith("encoder.embeddings.")}
    assert any(name.endswith("word_embeddings.weight") for name in embeddings)
    assert not any("pooler" in name for name in everything)


def test_lora_tunes_low_rank_pairs_on_query_and_value_and_the_head(base: Base) -> None:
    model = build_classifier(model_plan(base, Tune.LORA, lora_rank=2))
    adapters = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in HEAD}
    assert len(adapters) == 2 * 2 * 2  # two layers, query and value, A and B
    query, value = ("q_lin", "v_lin") if base.name == "distilbert" else ("query", "value")
    for name, parameter in adapters.items():
        assert f".{query}.lora_" in name or f".{value}.lora_" in name
        assert tuple(parameter.shape) == ((2, 16) if "lora_A" in name else (16, 2))
    assert _tuned_names(model) - set(adapters) == HEAD


def test_a_frozen_a_is_no_part_of_the_state_and_the_same_at_every_end(families: dict[str, Base]) -> None:
    """The oracle draws it again: AES-256-CTR by its definition, and no generator of torch."""
    built = []
    for drawn_before, seed in enumerate((4, 4, 5)):
        torch.manual_seed(drawn_before)
        built.append(build_classifier(model_plan(families["bert"], Tune.LORA, lora_frozen_a=True, seed=seed)))
    assert {name.rsplit(".lora_")[-1] for name in get_state(built[0])} == {"B.default.weight", *HEAD}
    one, same, other = ({n: p for n, p in m.named_parameters() if "lora_A" in n} for m in built)
    assert one and all(torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name]) for name in one)
    first = min(one)
    rank, width = one[first].shape
    expected = _uniform_by_definition(b"cloister/v1/lora-a/4", rank * width)
    assert np.allclose(one[first].detach().numpy().ravel(), (2 * expected - 1) / width**0.5, atol=1e-7)


def _uniform_by_definition(label: bytes, count: int) -> np.ndarray:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"cloister/v1/dp-stream/lora-a").derive(
        hashlib.sha256(label).digest()
    )
    words = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(8 * count))
    return np.array([int.from_bytes(words[8 * i : 8 * i + 8], "little") >> 11 for i in range(count)]) / 2.0**53


@pytest.mark.parametrize("frozen", [True, False])
def test_with_a_frozen_a_the_mean_of_updates_is_the_update_of_the_mean(families: dict[str, Base], frozen: bool) -> None:
    """What several sites' adapters do to the model on average, against what the mean adapter does."""
    plan = model_plan(families["bert"], Tune.LORA, lora_frozen_a=frozen)
    model, rng = build_classifier(plan), np.random.default_rng(0)
    states = [{name: rng.normal(size=v.shape).astype(np.float32) for name, v in get_state(model).items()} for _ in "ab"]
    mean = {name: (states[0][name] + states[1][name]) / 2 for name in states[0]}
    merged = []
    for state in (*states, mean):
        each = build_classifier(plan)
        set_state(each, state)
        merged.append(merged_encoder(each.encoder, plan).state_dict())
    gap = max(float((merged[2][k] - (merged[0][k] + merged[1][k]) / 2).abs().max()) for k in merged[2])
    assert gap < 1e-5 if frozen else gap > 0.1


def test_lora_on_a_model_without_known_projections_is_refused(
    families: dict[str, Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = nn.Sequential(nn.Linear(2, 2))
    monkeypatch.setattr("learning.model.load_encoder", lambda *_: nameless)
    with pytest.raises(TrainingError, match="query and value projections"):
        build_classifier(model_plan(families["bert"], Tune.LORA))
    with pytest.raises(TrainingError, match="a module named embeddings to freeze"):
        build_classifier(model_plan(families["bert"], Tune.FULL))


def test_equal_seeds_draw_equal_adapters_whatever_was_drawn_before(families: dict[str, Base]) -> None:
    states = []
    for drawn_before, seed in enumerate((4, 4, 5)):
        torch.manual_seed(drawn_before)
        states.append(get_state(build_classifier(model_plan(families["bert"], Tune.LORA, seed=seed))))
    drawn = [name for name in states[0] if "lora_A" in name]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert all(not np.array_equal(states[0][name], states[2][name]) for name in drawn)
    assert all(not states[0][name].any() for name in states[0] if "lora_B" in name)


@pytest.mark.parametrize("train_embeddings", [False, True])
@pytest.mark.parametrize("tune", [Tune.FULL, Tune.LORA])
def test_a_texts_logits_are_the_same_alone_and_in_a_padded_batch(
    base: Base, tune: Tune, train_embeddings: bool
) -> None:
    model = _with_drawn_head(build_classifier(model_plan(base, tune, train_embeddings=train_embeddings)))
    examples = _examples(base)
    with torch.no_grad():
        together = model(**examples.inputs(np.arange(len(LENGTHS)), CPU))
        alone = [model(**examples.inputs(np.array([row]), CPU))[0] for row in range(len(LENGTHS))]
    assert together.std(dim=0).min() > 0.05  # texts do differ
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_own_positions_change_no_logit(base: Base) -> None:
    """With tuned embeddings positions are ours, not the library's: contiguous, and equal in value."""
    ours = _with_drawn_head(build_classifier(model_plan(base, Tune.FULL, train_embeddings=True)))
    theirs = _with_drawn_head(build_classifier(model_plan(base, Tune.FULL)))
    inputs = _examples(base).inputs(np.arange(len(LENGTHS)), CPU)
    with torch.no_grad():
        assert torch.allclose(ours(**inputs), theirs(**inputs), atol=1e-6)
    extra = contiguous_positions(ours.encoder, inputs)
    assert sorted(extra) == ([] if base.name == "distilbert" else ["position_ids", "token_type_ids"])
    assert all(value.shape == inputs["input_ids"].shape and value.is_contiguous() for value in extra.values())
    assert contiguous_positions(theirs.encoder, inputs) == {}


def test_dropout_acts_in_training_alone_and_only_where_it_is_asked_for(base: Base) -> None:
    inputs = _examples(base).inputs(np.arange(5), CPU)
    for dropout in (0.0, 0.5):
        model = _with_drawn_head(build_classifier(model_plan(base, Tune.FULL, dropout=dropout)))
        with torch.no_grad():
            assert torch.equal(model(**inputs), model(**inputs))
            model.train()
            assert torch.equal(model(**inputs), model(**inputs)) == (dropout == 0.0)
        kinds = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
        assert kinds == {dropout}


def test_loading_prints_nothing_and_is_float32_in_evaluation_mode(
    base: Base, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = load_encoder(base)
    assert capfd.readouterr() == ("", "")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert not any(module.training for module in encoder.modules())
    assert encoder_width(base) == 16


@pytest.mark.parametrize("tune", Tune)
def test_a_state_goes_round_and_into_another_model_unchanged(families: dict[str, Base], tune: Tune) -> None:
    plan = model_plan(families["bert"], tune)
    model, rng = build_classifier(plan), np.random.default_rng(0)
    state = {name: rng.normal(size=value.shape).astype(np.float32) for name, value in get_state(model).items()}
    set_state(model, state)
    other = build_classifier(plan)
    set_state(other, get_state(model))
    found = get_state(other)
    assert list(found) == sorted(state)
    assert all(found[name].dtype == np.float32 and np.array_equal(found[name], state[name]) for name in state)


def test_a_bare_head_and_a_classifiers_head_share_one_state(families: dict[str, Base]) -> None:
    plan = model_plan(families["bert"])
    state = {"head.linear.weight": np.ones((3, 16), np.float32), "head.linear.bias": np.arange(3, dtype=np.float32)}
    head, whole = build_head(plan), build_classifier(plan)
    for model in (head, whole):
        set_state(model, state)
        assert all(np.array_equal(get_state(model)[name], state[name]) for name in state)


def test_a_state_is_a_copy() -> None:
    head = Head(2, 2)
    state = get_state(head)
    state["head.linear.bias"][:] = 7
    assert not head.linear.bias.detach().numpy().any()
    set_state(head, state)
    state["head.linear.bias"][:] = 9
    assert head.linear.bias.detach().numpy().tolist() == [7.0, 7.0]


_GOOD = {"head.linear.weight": np.ones((2, 3), np.float32), "head.linear.bias": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.linear.bias", None, r"missing \['head.linear.bias'\]"),
        ("encoder.extra", np.ones(2, np.float32), r"unknown \['encoder.extra'\]"),
        ("head.linear.bias", np.ones(3, np.float32), r"shape \(2,\); found \(3,\)"),
        ("head.linear.bias", np.ones((2, 1), np.float32), r"shape \(2,\); found \(2, 1\)"),
        ("head.linear.bias", np.array([1, np.nan], np.float32), "finite numbers"),
        ("head.linear.bias", np.array([1, -np.inf], np.float32), "finite numbers"),
        ("head.linear.bias", np.array([1, 1e300]), "finite numbers"),  # finite as float64 alone
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    name: str, value: np.ndarray | None, message: str
) -> None:
    head = Head(3, 2)
    state = {**_GOOD, name: value}
    bad = {key: array for key, array in state.items() if array is not None}
    with pytest.raises(ProtocolError, match=message):
        set_state(head, bad)
    assert not any(value.any() for value in get_state(head).values())


@pytest.mark.model
def test_minilm_gives_its_published_kind_of_vector(tiny_base: TinyBase, tmp_path: Path) -> None:
    """Sentences that mean alike are nearer than others: the weights, the pooling and the tokeniser belong together."""
    from learning.base import find_base
    from learning.examples import load_tokeniser, sentence_vectors, tokenise

    base = find_base("minilm")
    encode, pad = load_tokeniser(base, 32)
    texts = ["The patient has chest pain.", "He complains of an aching chest.", "The share price fell on Monday."]
    ids, offsets = tokenise(texts, encode)
    nothing = np.zeros(3, dtype=np.int64)
    vectors = sentence_vectors(load_encoder(base), TokenExamples(ids, offsets, nothing, nothing, pad), CPU)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors.shape == (3, 384)
    assert unit[0] @ unit[1] > 0.5 > 0.2 > unit[0] @ unit[2]
