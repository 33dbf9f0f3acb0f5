"""The way of a record: nothing reaches a tokeniser, a vector or a file but what the anonymiser let through."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from learning.base import Base, open_base
from learning.examples import TokenExamples, VectorExamples
from learning.options import TaskKind
from learning.prepare import Prepared, Recipe, Rows, StageProgress, prepare, profile_digest
from learning.records import Columns, open_table
from learning.tasks.tag_examples import TagExamples
from privacy.anonymise import Anonymiser, HiddenCounts, Kind, Limits, Profile, Treatment
from privacy.errors import DataError
from tests.tiny_base import TinyBase, other_weights

KEY = b"k" * 32
PLANTED = "alpha.beta@gamma.org"  # of the tiny vocabulary's own words, so that they would show in the ids
HIDDEN = {Kind.EMAIL: Treatment.TAG, Kind.NAME: Treatment.TAG}
PROFILE = Profile(name="test", summary="", ages_over=89, earliest_year=1940, treatments=HIDDEN)
ROWS = [
    ("p2", "Delta", "calm", "heart pain, seen today"),
    ("p1", "", "ill", f"write to {PLANTED} about lung pain"),
    ("p2", "Delta", "ill", "note that Delta was seen left"),
    ("p3", "", "calm", "skin " * 30),
]


@pytest.fixture(scope="module")
def base(tiny_base: TinyBase) -> Base:
    return open_base(tiny_base.folder, "tiny")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Rows]:
    """Writes the rows to a file and opens it as a site does."""

    def opened(rows: list[tuple[str, ...]] = ROWS, chosen: list[int] | None = None, unit: str | None = "pid") -> Rows:
        path = tmp_path / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("pid", "name", "label", "text"), *rows])
        columns = Columns(text="text", label="label", unit=unit, linked=("name",))
        table = open_table(path, columns, labels=("calm", "ill"))
        return table, np.array(range(len(rows)) if chosen is None else chosen, dtype=np.int64)

    return opened


@pytest.fixture
def recipe(base: Base) -> Recipe:
    return Recipe(source="rows", profile=profile_digest(PROFILE, KEY), base=base, max_tokens=32, vectors=False)


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe, load: Callable[..., Rows]) -> Callable[..., Prepared]:
    def prepared(
        *,
        rows: Callable[[], Rows] = load,
        limits: Limits | None = None,
        progress: StageProgress | None = None,
        change: Mapping[str, object] | None = None,
        hide: bool = True,
    ) -> Prepared:
        anonymiser = (lambda: Anonymiser(PROFILE, KEY, limits=limits)) if hide else None
        asked = replace(recipe, **(change or {}))
        return prepare(rows, asked, anonymiser=anonymiser, cache=tmp_path / "cache", progress=progress)

    return prepared


def _words(prepared: Prepared, base: Base) -> list[str]:
    """What the tokeniser saw, by the ids on disk."""
    words = (base.folder / "vocab.txt").read_text().split()
    examples = prepared.examples
    assert isinstance(examples, TokenExamples)
    return [
        " ".join(words[i] for i in examples.ids[examples.offsets[n] : examples.offsets[n + 1]])
        for n in range(len(examples))
    ]


def test_a_planted_identifier_is_in_no_cached_id(run: Callable[..., Prepared], base: Base) -> None:
    bare = _words(run(hide=False, change={"profile": ""}), base)
    assert "alpha [UNK] beta [UNK] gamma" in bare[1]  # it would show
    hidden = run()
    text = _words(hidden, base)[1]
    assert not {"alpha", "beta", "gamma"} & set(text.split())
    assert "lung pain" in text
    assert hidden.hidden.hidden[Kind.EMAIL] == 1


def test_a_rows_own_columns_are_hidden_in_its_text_and_in_no_other(
    run: Callable[..., Prepared], load: Callable[..., Rows], base: Base
) -> None:
    rows = [("p", "Delta", "calm", "note that Delta was seen"), ("q", "", "ill", "note delta was seen")]
    own, other = _words(run(rows=lambda: load(rows)), base)
    assert "delta" not in own
    assert "delta" in other


def test_without_an_anonymiser_texts_pass_as_they_are_and_nothing_is_counted(
    run: Callable[..., Prepared], base: Base
) -> None:
    prepared = run(hide=False)
    assert _words(prepared, base)[0] == "[CLS] heart pain [UNK] seen today [SEP]"
    assert prepared.hidden == HiddenCounts()


def test_withheld_documents_are_in_no_example_and_counted(run: Callable[..., Prepared], base: Base) -> None:
    calls: list[tuple[str, int, int]] = []
    prepared = run(limits=Limits(max_chars=60), progress=lambda *at: calls.append(at))  # the fourth text is too long
    assert (prepared.hidden.documents, prepared.hidden.withheld) == (4, 1)
    assert len(prepared.examples) == 3
    assert prepared.examples.labels.tolist() == [0, 1, 1]
    assert not any("skin" in text for text in _words(prepared, base))
    assert ("anonymise", 4, 4) in calls  # the last one was withheld, and the stage ends all the same
    assert ("tokenise", 3, 3) in calls


@pytest.mark.parametrize("chosen", [[], [3]])
def test_no_record_left_is_an_error_that_counts_and_leaves_nothing(
    run: Callable[..., Prepared], load: Callable[..., Rows], tmp_path: Path, chosen: list[int]
) -> None:
    with pytest.raises(DataError, match=rf"found none \({len(chosen)} withheld\)") as caught:
        run(rows=lambda: load(chosen=chosen), limits=Limits(max_chars=60))
    assert "skin" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_rows_labels_and_units_keep_the_order_that_is_asked_for(
    run: Callable[..., Prepared], load: Callable[..., Rows], base: Base
) -> None:
    prepared = run(rows=lambda: load(chosen=[3, 2, 0]))
    assert prepared.examples.labels.tolist() == [0, 1, 0]
    assert prepared.examples.units.tolist() == [0, 1, 1]  # p3, p2, p2
    assert [text.split()[1] for text in _words(prepared, base)] == ["skin", "note", "heart"]
    assert (prepared.examples.labels.dtype, prepared.examples.units.dtype) == (np.int64, np.int64)


def test_without_a_unit_column_every_record_is_its_own_even_an_equal_one(
    run: Callable[..., Prepared], load: Callable[..., Rows]
) -> None:
    prepared = run(rows=lambda: load([ROWS[0], ROWS[0], ROWS[1]], unit=None))
    assert prepared.examples.units.tolist() == [0, 1, 2]


def test_texts_are_cut_at_max_tokens(run: Callable[..., Prepared]) -> None:
    lengths = [run(change={"max_tokens": n}).examples.lengths(np.array([3]))[0] for n in (8, 31, 32, 33)]
    assert lengths == [8, 31, 32, 32]  # thirty words and two marks


def test_a_frozen_trunk_leaves_vectors_and_no_token(run: Callable[..., Prepared], tmp_path: Path, base: Base) -> None:
    from learning.examples import sentence_vectors
    from learning.model import load_encoder

    prepared, tokens = run(change={"vectors": True}), run()
    assert isinstance(prepared.examples, VectorExamples)
    assert isinstance(tokens.examples, TokenExamples)
    import torch

    expected = sentence_vectors(load_encoder(base), tokens.examples, torch.device("cpu"))
    assert np.allclose(prepared.examples.vectors, expected, atol=1e-5)
    assert prepared.examples.labels.tolist() == tokens.examples.labels.tolist()
    files = [{file.name for file in folder.iterdir()} for folder in (tmp_path / "cache").iterdir()]
    vectors = next(names for names in files if "vectors.npy" in names)
    assert vectors == {"vectors.npy", "labels.npy", "units.npy", "hidden.json"}


def test_the_cache_is_its_owners_alone(run: Callable[..., Prepared], tmp_path: Path) -> None:
    run()
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").rglob("*")}
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_the_second_call_reads_the_cache_and_no_record(run: Callable[..., Prepared]) -> None:
    first = run()
    again = run(rows=lambda: pytest.fail("the records were read again"))
    assert np.array_equal(first.examples.ids, again.examples.ids)
    assert np.array_equal(first.examples.labels, again.examples.labels)
    assert np.array_equal(first.examples.units, again.examples.units)
    assert (first.hidden, first.examples.pad_id) == (again.hidden, again.examples.pad_id)


@pytest.mark.parametrize("stage", ["anonymise", "tokenise", "encode"])
def test_a_preparation_that_is_stopped_half_way_leaves_nothing(
    run: Callable[..., Prepared], tmp_path: Path, stage: str
) -> None:
    def stop(at: str, done: int, total: int) -> None:
        if at == stage:
            raise KeyboardInterrupt

    change = {"vectors": True}
    with pytest.raises(KeyboardInterrupt):
        run(progress=stop, change=change)
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(run(change=change).examples) == 4  # and the next one is whole


def test_the_caches_name_changes_with_all_that_it_is_made_from(
    recipe: Recipe, tiny_base: TinyBase, tmp_path: Path
) -> None:
    heavier = other_weights(tiny_base, tmp_path / "weights")
    cased = Path(shutil.copytree(tiny_base.folder, tmp_path / "cased"))
    (cased / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    moved = Path(shutil.copytree(tiny_base.folder, tmp_path / "moved"))
    other = replace(PROFILE, treatments={**PROFILE.treatments, Kind.PHONE: Treatment.TAG})
    names = [
        recipe.name(),
        replace(recipe, source="other").name(),
        replace(recipe, profile="").name(),
        replace(recipe, profile=profile_digest(PROFILE, b"K" * 32)).name(),
        replace(recipe, profile=profile_digest(other, KEY)).name(),
        replace(recipe, profile=profile_digest(replace(PROFILE, ages_over=80), KEY)).name(),
        replace(recipe, profile=profile_digest(replace(PROFILE, earliest_year=1941), KEY)).name(),
        replace(recipe, profile=profile_digest(replace(PROFILE, name="other"), KEY)).name(),
        replace(recipe, base=open_base(heavier.folder, "tiny")).name(),
        replace(recipe, base=open_base(cased, "tiny")).name(),
        replace(recipe, max_tokens=33).name(),
        replace(recipe, vectors=True).name(),
    ]
    assert len(set(names)) == len(names)
    assert replace(recipe, base=open_base(moved, "elsewhere")).name() == names[0]  # a name and a place are not content
    assert all(KEY.hex() not in name and "rows" not in name for name in names)


def test_better_detectors_make_another_cache(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade no text stays as the older detectors left it."""
    from learning.prepare import detectors_digest
    from privacy import anonymise

    package = Path(shutil.copytree(Path(anonymise.__file__).parent, tmp_path / "anonymise"))
    before = profile_digest(PROFILE, KEY)
    detectors_digest.cache_clear()
    monkeypatch.setattr(anonymise, "__file__", str(package / "__init__.py"))
    assert profile_digest(PROFILE, KEY) == before
    for file in ("detectors/__init__.py", "lexicon.py"):
        (package / file).write_text((package / file).read_text() + "\n")
        detectors_digest.cache_clear()
        assert profile_digest(PROFILE, KEY) != before
        before = profile_digest(PROFILE, KEY)
    detectors_digest.cache_clear()


def test_marked_entities_move_with_their_text_through_anonymisation(base: Base, tmp_path: Path) -> None:
    """What is hidden becomes a tag, which is other than its value in length: labels stay on their own words."""
    text = f"Delta wrote to {PLANTED} about heart pain"
    spans = [
        {"start": text.index(word), "end": text.index(word) + len(word), "label": label}
        for word, label in (("Delta", "WHO"), (PLANTED, "MAIL"), ("heart", "ORGAN"))
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"name": "Delta", "text": text, "spans": spans}), encoding="utf-8")
    columns = Columns(text="text", label=None, linked=("name",), spans="spans")
    table = open_table(path, columns, labels=("WHO", "MAIL", "ORGAN"))
    recipe = Recipe(source="s", profile="p", base=base, max_tokens=64, vectors=False, task=TaskKind.TAG)
    made = prepare(
        lambda: (table, np.arange(1)), recipe, anonymiser=lambda: Anonymiser(PROFILE, KEY), cache=tmp_path / "c"
    )
    examples = made.examples
    assert isinstance(examples, TagExamples)
    tokeniser = AutoTokenizer.from_pretrained(base.folder)
    shown = "[NAME] wrote to [EMAIL] about heart pain"
    assert examples.ids.tolist() == tokeniser(shown)["input_ids"]
    offsets = tokeniser(shown, return_offsets_mapping=True)["offset_mapping"]
    tagged = dict.fromkeys(range(1, 7), "")
    for (start, end), tag in zip(offsets, examples.tags.tolist(), strict=True):
        if tag > 0:
            tagged[(tag - 1) // 2 * 2 + 1] += shown[start:end]
    assert (tagged[1], tagged[3], tagged[5]) == ("[NAME]", "[EMAIL]", "heart")
    assert made.hidden.hidden == {Kind.NAME: 1, Kind.EMAIL: 1}
