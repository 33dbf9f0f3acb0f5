"""The tagger: windows that count each piece once, the loss of a text, the private step, the model folder.

The oracles are transformers' own tokeniser and token classifier, and slow loops over single texts.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from client.anonymise_tagger import Tagger as Detector
from learning.artefact import About, Predictor, SpanPredictor, export_model, read_about
from learning.base import Base, open_base
from learning.entities import UNCOUNTED, Entity, tag_names
from learning.model import Head, get_state, set_state
from learning.options import ModelPlan, TaskKind, Tune
from learning.private import Streams, train_round_privately
from learning.shelf import Shelf
from learning.tasks import task_of
from learning.tasks.tag_examples import TagExamples, cut, tag_examples
from learning.tasks.tagger import answers, build_tagger
from learning.training import record_losses, train_round
from privacy.anonymise import Page
from privacy.dp import Plan
from privacy.errors import ConfigError, ProtocolError
from server.cli import main
from tests.learning.tiny import training_plan
from tests.tiny_base import TinyBase

CPU, WINDOW = torch.device("cpu"), 16
LABELS = ("NAME", "NUMBER")
TAG = task_of(TaskKind.TAG)
NAMES, OTHERS = ("alpha", "beta", "gamma", "delta"), ("calm", "mild", "left", "note", "seen", "today")


@pytest.fixture(scope="module")
def base(tiny_base: TinyBase) -> Base:
    return open_base(tiny_base.folder, "tiny")


def notes(count: int, words: tuple[int, int] = (3, 40), seed: int = 0) -> tuple[list[str], list[tuple[Entity, ...]]]:
    """Texts of known words in which four words are names and numbers are numbers."""
    rng, texts, marks = random.Random(seed), [], []
    for _ in range(count):
        text, found = "", []
        for _ in range(rng.randint(*words)):
            kind = rng.choices([None, 0, 1], [6, 2, 1])[0]
            word = rng.choice((OTHERS, NAMES, ("17", "408"))[0 if kind is None else kind + 1])
            if kind is not None:
                found.append(Entity(len(text), len(text) + len(word), kind))
            text += word + " "
        texts.append(text)
        marks.append(tuple(found))
    return texts, marks


def examples_of(base: Base, count: int = 6, words: tuple[int, int] = (3, 40), seed: int = 0) -> TagExamples:
    texts, marks = notes(count, words, seed)
    return tag_examples(cut(texts, base, WINDOW), marks, np.arange(count, dtype=np.int64))


def plan_of(base: Base, tune: Tune = Tune.FULL, **changes: object) -> ModelPlan:
    return replace(ModelPlan(base=base, labels=5, tune=tune, task=TaskKind.TAG), **changes)  # type: ignore[arg-type]


def moved(plan: ModelPlan) -> dict[str, np.ndarray]:
    """As after a training: every tuned number moved, those that begin at zero too."""
    rng = np.random.default_rng(0)
    start = get_state(build_tagger(plan))
    return {name: value + rng.normal(scale=0.2, size=value.shape).astype(np.float32) for name, value in start.items()}


@pytest.mark.parametrize("window", [8, 9, 16, 17, 64])
@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 11, 12, 13, 14, 15, 60])
def test_each_piece_counts_once_and_in_order(base: Base, window: int, length: int) -> None:
    text = " ".join(f"{number % 10}" for number in range(length))
    tokeniser = AutoTokenizer.from_pretrained(base.folder)
    whole = tokeniser(text, add_special_tokens=False, return_offsets_mapping=True)
    found = cut([text, "calm"], base, window)
    place = found.pieces(0)
    assert found.ids[place][found.counted[place]].tolist() == whole["input_ids"]
    assert found.spans[place][found.counted[place]].tolist() == [list(span) for span in whole["offset_mapping"]]
    assert np.diff(found.offsets).max() <= window
    assert found.texts == 2


def test_a_piece_counts_where_it_is_further_from_the_edge(base: Base) -> None:
    found = cut([" ".join("1" * 60)], base, 34)  # 32 pieces a window, 4 of them shared with the next
    first, second = (found.counted[found.offsets[w] : found.offsets[w + 1]] for w in (0, 1))
    assert first[-6:].tolist() == [True, True, True, False, False, False]  # two shared ones, then [SEP]
    assert second[:5].tolist() == [False, False, False, True, True]  # [CLS], two shared ones


def test_a_base_with_fewer_positions_than_a_window_is_refused(base: Base) -> None:
    with pytest.raises(ConfigError, match="max_tokens"):
        cut(["calm"], base, 65)


def test_the_loss_of_a_text_is_the_mean_over_its_pieces_whatever_its_windows(base: Base) -> None:
    examples, plan = examples_of(base), training_plan()
    model = build_tagger(plan_of(base))
    set_state(model, moved(plan_of(base)))
    assert len(examples) > examples.records  # some are longer than a window
    for record in range(examples.records):
        own = examples.members(np.array([record]))
        sums, count = 0.0, 0
        for window in own:
            place = slice(examples.offsets[window], examples.offsets[window + 1])
            logits = model(input_ids=torch.tensor([examples.ids[place].tolist()]),
                           attention_mask=torch.ones(1, place.stop - place.start, dtype=torch.int64))  # fmt: skip
            for row, tag in zip(torch.log_softmax(logits[0], dim=-1), examples.tags[place], strict=True):
                if tag != UNCOUNTED:
                    sums, count = sums - row[int(tag)].item(), count + 1
        losses = record_losses(model, examples, own, plan, CPU) * torch.from_numpy(examples.shares(own))
        assert float(losses.sum()) == pytest.approx(sums / count, rel=1e-5)


def test_a_text_without_pieces_costs_nothing(base: Base) -> None:
    examples = tag_examples(cut(["", "calm"], base, WINDOW), [(), ()], np.arange(2, dtype=np.int64))
    losses = record_losses(build_tagger(plan_of(base)), examples, np.arange(2), training_plan(), CPU)
    assert losses[0] == 0
    assert examples.shares(np.arange(2)).tolist() == [0, 1]


def test_padding_changes_no_loss(base: Base) -> None:
    examples, plan, model = examples_of(base), training_plan(), build_tagger(plan_of(base))
    set_state(model, moved(plan_of(base)))
    together = record_losses(model, examples, np.arange(len(examples)), plan, CPU)
    alone = [record_losses(model, examples, np.array([w]), plan, CPU).item() for w in range(len(examples))]
    assert together.tolist() == pytest.approx(alone, rel=1e-4)


def quiet_plan(clip: float, most: int = 1, unit: str = "record") -> Plan:
    plan = Plan(unit=unit, sampling_rate=1.0, divisor=4.0, clip_norm=clip, noise_multiplier=0.1, steps_per_round=1,
                rounds=1, spare_rounds=0, delta=1e-5, target_epsilon=1.0, max_records_per_unit=most)  # fmt: skip
    object.__setattr__(plan, "noise_multiplier", 1e-12)
    return plan


@pytest.mark.parametrize("embeddings", [False, True])
@pytest.mark.parametrize("clip", [0.05, 1e3])
@pytest.mark.parametrize("tune", [Tune.HEAD, Tune.LORA, Tune.FULL])
def test_all_windows_of_a_text_are_clipped_as_one_unit(base: Base, tune: Tune, clip: float, embeddings: bool) -> None:
    """One private step without noise to speak of, against autograd on one text at a time."""
    examples, plan = examples_of(base, 4, (10, 30)), plan_of(base, tune, train_embeddings=embeddings)
    start, training = moved(plan), training_plan(lot=4, batch=64)
    assert int(np.diff(examples.firsts).max()) > 1
    expected = {name: value.astype(np.float64) for name, value in start.items()}
    for record in range(4):
        model = build_tagger(plan)
        set_state(model, start)
        model.train()
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        loss = record_losses(model, examples, examples.members(np.array([record])), training, CPU).sum()
        parts = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
        norm = sum(float(part.double().square().sum()) for part in parts.values()) ** 0.5
        factor = min(1.0, clip * (1 - 1e-3) / norm)
        for name, part in parts.items():
            expected[name] -= training.learning_rate * factor * part.double().numpy() / 4
    model = build_tagger(plan)
    set_state(model, start)
    train_round_privately(model, examples, training, quiet_plan(clip, 64, "note"), 1, Streams.from_os())
    for name, value in get_state(model).items():
        assert np.abs(value - expected[name]).max() < 2e-6 * max(1.0, np.abs(expected[name]).max()), name


def test_with_the_record_as_unit_one_window_of_each_text_is_learned_from(base: Base) -> None:
    """Whichever windows were drawn, the step is that of one window a text."""
    examples, plan, training = examples_of(base, 1, (30, 30)), plan_of(base, Tune.HEAD), training_plan(lot=1, batch=64)
    assert len(examples) >= 3
    start = moved(plan)
    steps = []
    for window in range(len(examples)):
        model = build_tagger(plan)
        set_state(model, start)
        loss = record_losses(model, examples, np.array([window]), training, CPU).sum()
        weight, bias = torch.autograd.grad(loss, [model.head.linear.weight, model.head.linear.bias])
        steps.append((weight.numpy() * training.learning_rate / 4, bias.numpy() * training.learning_rate / 4))
    drawn = set()
    for _ in range(30):
        model = build_tagger(plan)
        set_state(model, start)
        train_round_privately(model, examples, training, quiet_plan(1e3), 1, Streams.from_os())
        after = get_state(model)
        step = start["head.linear.weight"] - after["head.linear.weight"]
        gaps = [np.abs(step - weight).max() for weight, _ in steps]
        assert min(gaps) < 1e-6
        drawn.add(int(np.argmin(gaps)))
    assert drawn == set(range(len(examples)))  # each is missed 30 times with chance (2/3)^30 = 5e-6 at most


def test_a_lot_is_of_texts_not_of_windows(base: Base) -> None:
    """A step on a whole lot is the mean over texts: as many texts, their windows all in it."""
    examples, plan = examples_of(base, 4, (10, 30)), plan_of(base, Tune.HEAD)
    training, start = training_plan(lot=4, batch=3), moved(plan)
    model = build_tagger(plan)
    set_state(model, start)
    everything = np.arange(len(examples))
    losses = record_losses(model, examples, everything, training, CPU) * torch.from_numpy(examples.shares(everything))
    weight = torch.autograd.grad(losses.sum() / 4, model.head.linear.weight)[0].numpy()
    train_round(model, examples, training, 1)
    moved_by = start["head.linear.weight"] - get_state(model)["head.linear.weight"]
    assert np.abs(moved_by - training.learning_rate * weight).max() < 1e-6


def test_a_cache_gives_the_same_examples_back(base: Base, tmp_path: Path) -> None:
    from learning.recipe import ReadRecords, Recipe

    texts, marks = notes(5)
    recipe = Recipe(source="s", profile="none", base=base, max_tokens=WINDOW, vectors=False, task=TaskKind.TAG)
    read = ReadRecords(texts=texts, labels=None, entities=marks, units=np.array([0, 1, 1, 2, 3]))
    shelf = Shelf(tmp_path, bytes(32))
    TAG.store(read, recipe, shelf, lambda *_: None)
    found, expected = TAG.load(shelf, recipe), tag_examples(cut(texts, base, WINDOW), marks, read.units)
    assert isinstance(found, TagExamples)
    for name in ("ids", "offsets", "firsts", "tags", "units"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    both = TAG.join([found, expected])
    assert both.records == 10
    assert len(set(both.units.tolist())) == 10  # pooled records are units of their own
    last = both.members(np.array([9]))
    assert both.lengths(last).tolist() == expected.lengths(expected.members(np.array([4]))).tolist()


def test_the_cache_of_a_tagger_has_a_name_of_its_own(base: Base) -> None:
    from learning.recipe import Recipe

    recipe = Recipe(source="s", profile="none", base=base, max_tokens=WINDOW, vectors=False)
    assert recipe.name() != replace(recipe, task=TaskKind.TAG).name()


def about(base: Base, tune: Tune) -> About:
    return About(
        labels=LABELS, max_tokens=WINDOW, base=base.name, base_sha256=base.sha256, tune=tune, job_name="a job",
        job_digest="d" * 64, protections={"dp": True}, task=TaskKind.TAG,
    )  # fmt: skip


@pytest.mark.parametrize("tune", [Tune.HEAD, Tune.LORA, Tune.FULL])
def test_transformers_loads_the_folder_and_answers_as_the_training_code_did(
    base: Base, tmp_path: Path, tune: Tune
) -> None:
    plan = plan_of(base, tune)
    state = moved(plan)
    export_model(tmp_path / "model", plan, state, about(base, tune))
    model = build_tagger(plan)
    set_state(model, state)
    stock = AutoModelForTokenClassification.from_pretrained(tmp_path / "model").eval()
    assert [stock.config.id2label[n] for n in range(5)] == list(tag_names(LABELS))
    inputs = AutoTokenizer.from_pretrained(tmp_path / "model")("alpha 17 seen", return_tensors="pt")
    ours = model.eval()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    theirs = stock(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    assert float((ours - theirs).detach().abs().max()) < 1e-4
    assert float(theirs.detach().abs().max()) > 0.1


def test_a_state_of_another_shape_is_refused_and_leaves_no_folder(base: Base, tmp_path: Path) -> None:
    plan = plan_of(base, Tune.HEAD)
    state = {name: value[:-1] for name, value in moved(plan).items()}
    with pytest.raises(ProtocolError):
        export_model(tmp_path / "model", plan, state, about(base, Tune.HEAD))
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def trained(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger that has learned the four names and the numbers, as a folder."""
    torch.set_num_threads(1)
    plan = plan_of(base)
    model, training = build_tagger(plan), training_plan(lot=16, batch=64, learning_rate=0.5, steps_per_round=60)
    train_round(model, examples_of(base, 60, (3, 20)), training, 1)
    folder = tmp_path_factory.mktemp("tagger") / "model"
    export_model(folder, plan, get_state(model), about(base, Tune.FULL))
    return folder


def test_a_trained_tagger_finds_entities_in_texts_longer_than_a_window(trained: Path, base: Base) -> None:
    texts, marks = notes(20, (30, 60), seed=9)
    found = SpanPredictor(trained).entities(texts)
    right = sum(len(set(f) & set(m)) for f, m in zip(found, marks, strict=True))
    assert right / sum(map(len, marks)) > 0.95
    assert right / sum(map(len, found)) > 0.95


def test_predict_answers_spans_with_offsets(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lines.txt"
    file.write_text("seen alpha today\ncalm\n", encoding="utf-8")
    assert main(["predict", str(trained), str(file), "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"id": "0", "spans": [{"start": 5, "end": 10, "label": "NAME"}]}
    assert second == {"id": "1", "spans": []}
    assert main(["predict", str(trained), str(file)]) == 0
    assert capsys.readouterr().out == "0\t5\t10\tNAME\n"


def test_the_folder_is_a_detector_beside_the_rules_and_reads_the_windows_it_was_trained_on(trained: Path) -> None:
    text = "calm mild " * 20 + "alpha"
    detector = Detector(trained)
    assert [(span.start, span.end, span.kind.value) for span in detector.find(Page(text))] == [(200, 205, "name")]
    assert detector.window == WINDOW


def test_a_classifier_is_no_tagger_and_a_tagger_no_classifier(trained: Path) -> None:
    assert read_about(trained).task is TaskKind.TAG
    with pytest.raises(ConfigError, match="classify"):
        Predictor(trained)


def test_the_head_is_scaled_by_a_constant_of_the_base(base: Base) -> None:
    """Entries of order one reach the head: the RMS of a fresh encoder's vectors, scaled, over many texts."""
    model, examples = build_tagger(plan_of(base)), examples_of(base, 20)
    inputs = examples.inputs(np.arange(20), CPU)
    hidden = model.encoder(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    assert float(hidden.detach().square().mean().sqrt()) * model.head.scale == pytest.approx(1.0, rel=0.2)
    assert isinstance(model.head, Head)


def test_answers_that_are_not_finite_are_an_error(base: Base) -> None:
    from privacy.errors import TrainingError

    model = build_tagger(plan_of(base))
    with torch.no_grad():
        model.head.linear.bias[0] = float("nan")
    with pytest.raises(TrainingError):
        answers(model, examples_of(base, 1))
