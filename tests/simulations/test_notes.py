"""The invented notes: reproducible, full of known identifiers, and none of them able to reach a real person."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import phonenumbers
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from stdnum.cn import ric

from learning.records import Columns, open_table
from privacy.errors import ConfigError
from simulations.notes import (
    COLUMNS,
    DEPARTMENTS,
    Language,
    Note,
    generate_notes,
    leaks,
    people,
    phrases,
    skewed_sites,
    write_csv,
    write_jsonl,
)

NOTES = generate_notes(1200, seed=3)
BANKS = [
    *(sentence for bank in (*phrases.OWN_EN.values(), *phrases.OWN_ZH.values()) for sentence in bank),
    *(sentence for bank in (*phrases.SHARED_EN.values(), *phrases.SHARED_ZH.values()) for sentence in bank),
    *phrases.GENERAL_EN,
    *phrases.GENERAL_ZH,
]
FRAMES = [*phrases.OPENINGS_EN, *phrases.CLOSINGS_EN, *phrases.OPENINGS_ZH, *phrases.CLOSINGS_ZH]
EVERY_NAME = (*people.WOMEN, *people.MEN, *people.SURNAMES)


def test_the_same_seed_gives_the_same_notes_in_another_process() -> None:
    program = (
        "from simulations.notes import generate_notes, skewed_sites; import hashlib; "
        "n = generate_notes(200, 9); print(hashlib.sha256(repr([n, skewed_sites(n, 3, 1)]).encode()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert generate_notes(50, 1) != generate_notes(50, 2)


@pytest.mark.parametrize("count", [0, 1, 2, 137])
def test_as_many_notes_as_were_asked_for(count: int) -> None:
    assert len(generate_notes(count, 0)) == count


@pytest.mark.parametrize(("count", "chinese"), [(-1, 0.3), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_counts_and_shares_out_of_range_are_refused(count: int, chinese: float) -> None:
    with pytest.raises(ConfigError):
        generate_notes(count, 0, chinese=chinese)


def test_every_planted_identifier_stands_in_its_text() -> None:
    for note in NOTES:
        assert len(note.planted) >= 2
        assert all(identifier in note.text for identifier in note.planted)


def test_what_is_not_planted_is_no_identifier() -> None:
    # With what was planted taken out, no digit run of four, no name, no mail and no hospital is left.
    for note in NOTES:
        rest = note.text
        for identifier in sorted(note.planted, key=len, reverse=True):
            rest = rest.replace(identifier, "#")
        assert not re.search(r"\d{4}|@|人民医院|Hospital|Infirmary", rest), rest
        assert not any(name in rest for name in EVERY_NAME)


def test_the_columns_hold_the_same_identifiers_as_the_text() -> None:
    planted = Counter(
        column
        for note in NOTES
        for column in ("patient_id", "name", "mrn", "phone", "address", "dob", "hospital")
        if getattr(note, column) in note.planted
    )
    assert set(planted) == {"patient_id", "name", "mrn", "phone", "address", "dob", "hospital"}
    assert min(planted.values()) > 20


def test_every_kind_of_identifier_is_planted() -> None:
    text = "\n".join(identifier for note in NOTES for identifier in note.planted)
    for kind in (
        r"^\(\d{3}\) 555-01\d\d$",
        r"^\d{3}-555-01\d\d$",
        r"^154\d{8}$",
        r"^\d{17}[\dX]$",
        r"^P1\d{5}$",
        r"^\d{8}$",
        r"^\d{4}-\d\d-\d\d$",
        r"^\d\d/\d\d/\d{4}$",
        r"^\d+ \w+ \d{4}$",
        r"^\d{4}年\d+月\d+日$",
        r"^\S+@example\.(org|com|net)$",
        r"^云溪市.+室$",
        r"^\d+ \w+ (Avenue|Road|Lane|Street), \w+$",
        r"医院$",
        r"(Hospital|Infirmary)$",
    ):
        assert re.search(kind, text, re.MULTILINE), kind
    assert any(f"Dr {note.planted[-1]}" in note.text for note in NOTES)
    assert any("医生" in note.text for note in NOTES)


def test_no_telephone_rings_and_no_resident_id_is_anyones() -> None:
    numbers = [identifier for note in NOTES for identifier in note.planted]
    for number in (one for one in numbers if re.fullmatch(r"154\d{8}", one)):
        assert not phonenumbers.is_valid_number(phonenumbers.parse(number, "CN"))
    for number in (one for one in numbers if "555" in one and "-" in one):
        assert re.search(r"\b555-01\d\d$", number)
    ids = [one for one in numbers if re.fullmatch(r"\d{17}[\dX]", one)]
    assert len(ids) > 20
    for number in ids:
        assert ric.is_valid(number)  # python-stdnum: check digit, place and date
        assert ric.get_birth_date(number).year < 1890


def test_no_name_is_part_of_what_every_ward_writes() -> None:
    ordinary = " ".join(BANKS + FRAMES).lower()
    assert not [name for name in EVERY_NAME if name.lower() in ordinary]
    assert min(map(len, EVERY_NAME)) >= 5
    assert leaks(" ".join(BANKS + FRAMES), NOTES) == []


def test_patients_have_several_notes_in_one_language_and_with_one_record() -> None:
    patients: dict[str, list[Note]] = {}
    for note in NOTES:
        patients.setdefault(note.patient_id, []).append(note)
    assert {len(notes) for notes in patients.values()} == {1, 2, 3, 4}
    for notes in patients.values():
        assert len({(note.name, note.mrn, note.phone, note.address, note.dob, note.language) for note in notes}) == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_chinese_is_as_asked(share: float) -> None:
    notes = generate_notes(600, 5, chinese=share)
    found = sum(note.language is Language.CHINESE for note in notes) / 600
    # About 240 patients of 1 to 4 notes: a standard deviation of at most 0.033.
    assert abs(found - share) < 0.12
    for note in notes:
        assert bool(re.search(r"[一-鿿]", note.text)) == (note.language is Language.CHINESE)


def test_departments_are_balanced_and_hard_enough_to_tell_apart() -> None:
    counts = Counter(note.department for note in NOTES)
    assert set(counts) == set(DEPARTMENTS)
    assert min(counts.values()) > 120
    held_out = [int(note.patient_id[1:]) % 4 == 0 for note in NOTES]
    train = [note for note, out in zip(NOTES, held_out, strict=True) if not out]
    test = [note for note, out in zip(NOTES, held_out, strict=True) if out]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=3)
    model = LogisticRegression(C=10, max_iter=300)
    model.fit(vectors.fit_transform([note.text for note in train]), [note.department for note in train])
    accuracy = model.score(vectors.transform([note.text for note in test]), [note.department for note in test])
    assert 0.75 < accuracy < 0.96


def test_some_notes_have_no_sentence_of_their_own_department() -> None:
    english = [note for note in NOTES if note.language is Language.ENGLISH]
    own = {name: [sentence.split("{")[0][:25] for sentence in bank] for name, bank in phrases.OWN_EN.items()}
    bare = sum(not any(start and start in note.text for start in own[note.department]) for note in english)
    assert 0.1 < bare / len(english) < 0.4


@pytest.mark.parametrize("sites", [1, 2, 3, 8])
def test_sites_hold_every_note_once_and_patients_whole(sites: int) -> None:
    dealt = skewed_sites(NOTES, sites, seed=4)
    assert len(dealt) == sites
    assert all(dealt)
    assert sorted(map(id, NOTES)) == sorted(id(note) for site in dealt for note in site)
    homes = Counter(patient for site in dealt for patient in {note.patient_id for note in site})
    assert set(homes.values()) == {1}


def test_sites_differ_by_department_and_by_language() -> None:
    dealt = skewed_sites(NOTES, 3, seed=4)
    for number, site in enumerate(dealt):
        shares = Counter(note.department for note in site)
        favoured = {DEPARTMENTS[2 * number], DEPARTMENTS[2 * number + 1]}
        assert {name for name, _ in shares.most_common(2)} == favoured
    chinese = [sum(note.language is Language.CHINESE for note in site) / len(site) for site in dealt]
    assert chinese[0] > 0.5 > 0.3 > max(chinese[1:])


def test_as_many_sites_as_patients_is_the_most_there_can_be() -> None:
    few = generate_notes(12, 0)
    patients = len({note.patient_id for note in few})
    assert all(skewed_sites(few, patients, 0))
    for sites in (0, patients + 1):
        with pytest.raises(ConfigError, match=f"expected 1 to {patients} sites"):
            skewed_sites(few, sites, 0)


def test_files_hold_the_columns_and_nothing_of_what_was_planted(tmp_path: Path) -> None:
    write_csv(NOTES, tmp_path / "a.csv")
    write_jsonl(NOTES, tmp_path / "a.jsonl")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        from_csv = list(csv.DictReader(file))
    from_json = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = [{column: getattr(note, column) for column in COLUMNS} for note in NOTES]
    assert from_csv == from_json == expected


def test_a_site_can_open_what_was_written(tmp_path: Path) -> None:
    write_csv(NOTES, tmp_path / "a.csv")
    columns = Columns(text="text", label="department", unit="patient_id")
    table = open_table(tmp_path / "a.csv", columns, labels=None)
    assert table.labels == tuple(sorted(DEPARTMENTS))
    assert table.texts([7]) == [NOTES[7].text]
    assert set(table.linked(0)) == {"patient_id", "name", "mrn", "phone", "address", "dob", "hospital"}


def _leaks_by_loop(text: str, notes: list[Note]) -> list[str]:
    planted = {identifier for note in notes for identifier in note.planted}
    return sorted(one for one in planted if one.lower() in text.lower())


def test_leaks_are_those_a_loop_over_every_identifier_finds() -> None:
    text = " | ".join(note.text for note in NOTES[::17])
    found = leaks(text, NOTES)
    assert found == _leaks_by_loop(text, NOTES)
    assert len(found) > 150


def test_a_leak_hides_neither_in_case_nor_in_line_breaks_nor_in_a_longer_leak() -> None:
    note = next(note for note in NOTES if len(note.planted[-1].split()) == 2 and note.name == note.planted[-1])
    given, surname = note.name.split()
    assert leaks(f"xx{given.upper()}\n\t {surname.lower()}yy", [note]) == [note.name]
    both = next(note for note in NOTES if any(a != b and a in b for a in note.planted for b in note.planted))
    assert leaks(" ".join(both.planted), [both]) == sorted(both.planted)


def test_no_leak_is_found_where_there_is_none() -> None:
    assert leaks("", NOTES) == []
    assert leaks("Feels better than at the last visit.", NOTES) == []
    assert leaks(NOTES[0].text, []) == []
