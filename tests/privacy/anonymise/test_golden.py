"""The golden set: every kind of identifier, language by language, with near misses; by recall and precision."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from privacy.anonymise import Anonymiser, Kind, load_profile
from tests.privacy.anonymise.golden import make, writings

FOLDER = Path(make.__file__).parent
LEAST_NEAR_MISSES = 8
CHECKSUMMED = ("card", "iban", "national_id")
ANONYMISER = Anonymiser(load_profile("strict"), None)


@cache
def rows(kind: str) -> list[dict[str, str | None]]:
    return [json.loads(line) for line in (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]


def is_hidden(text: str, value: str) -> bool:
    covered = {
        place for found in ANONYMISER.redact(text).findings for place in range(found.start, found.end)
    }  # fmt: skip
    start = text.index(value)
    return all(place in covered for place in range(start, start + len(value)) if text[place].isalnum())


def found_as(text: str, kind: str) -> bool:
    return any(found.kind.value == kind for found in ANONYMISER.redact(text).findings)


KINDS = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def test_the_set_is_what_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.glob("*.jsonl")
    }


def test_every_kind_has_a_file_with_near_misses() -> None:
    assert set(KINDS) == {kind.value for kind in Kind}
    few = {kind: sum(row["value"] is None for row in rows(kind)) for kind in KINDS}
    assert {kind: count for kind, count in few.items() if count < LEAST_NEAR_MISSES} == {}


def test_no_writing_of_the_table_is_there_twice() -> None:
    for (kind, language), (formats, frames) in writings.WRITINGS.items():
        assert len(set(formats)) == len(formats) and len(set(frames)) == len(frames), (kind, language)
        assert len(formats) * len(frames) >= 20, (kind, language)
    assert {kind for kind, _ in writings.WRITINGS} >= {kind.value for kind in Kind} - {"date", "iban"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_twenty_writings_in_each_of_its_languages_and_all_are_hidden(kind: str) -> None:
    total: dict[str, int] = defaultdict(int)
    hidden: dict[str, int] = defaultdict(int)
    for row in rows(kind):
        if row["value"] is not None:
            total[str(row["language"])] += 1
            hidden[str(row["language"])] += is_hidden(str(row["text"]), row["value"])
    assert min(total.values()) >= 20
    least = 0.99 if kind in CHECKSUMMED else 0.95
    assert {
        language: count / total[language] for language, count in hidden.items() if count < least * total[language]
    } == {}


@pytest.mark.parametrize("kind", KINDS)
def test_written_near_misses_are_not_taken_for_the_kind(kind: str) -> None:
    near = [str(row["text"]) for row in rows(kind) if row["language"] == "near"]
    assert [text for text in near if found_as(text, kind)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_near_misses_are_not_taken_for_the_kind(kind: str) -> None:
    right = wrong = 0
    for row in rows(kind):
        taken = found_as(str(row["text"]), kind)
        right += taken and row["value"] is not None
        wrong += taken and row["value"] is None
    least = 0.99 if kind in CHECKSUMMED else 0.95
    assert right / max(1, right + wrong) >= least


@pytest.mark.parametrize(
    ("kind", "language"),
    [(kind, language) for kind in ("national_id", "phone", "card") for language in ("zh", "zh-grouped")]
    + [("account", "zh")],
)
def test_chinese_numbers_in_running_text_are_all_found(kind: str, language: str) -> None:
    mine = [row for row in rows(kind) if row["language"] == language and row["value"]]
    assert len(mine) >= 20
    assert [row["text"] for row in mine if not is_hidden(str(row["text"]), str(row["value"]))] == []
