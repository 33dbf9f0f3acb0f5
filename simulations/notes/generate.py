"""Notes from phrases and people, by a seed: the same in every process, and every identifier in them is known.

A note is an opening, three to five sentences and a closing. A sentence is the department's own, or one that it shares
with a second department, or one that says nothing; now and then it is another department's. The shares are set so that
a classifier is good and never perfect: on 2,400 notes, a quarter of the patients held out, logistic regression on mean
embeddings of all-MiniLM-L6-v2 was right for 84 % (English 88 %, Chinese 74 %), on character n-grams for 91 %.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from random import Random
from string import Formatter

from privacy.errors import ConfigError
from simulations.notes import phrases
from simulations.notes.people import FIRST_DAY, Language, Person, make_person

_OWN, _SHARED, _GENERAL = 0.34, 0.30, 0.28  # the rest, 0.08: history from another department
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_PLAIN = frozenset({"title", "age"})  # what an opening holds besides identifiers


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note with the columns of its record. `planted`: every identifier in `text`, as it stands there."""

    patient_id: str
    name: str
    mrn: str
    phone: str
    address: str
    dob: str
    hospital: str
    department: str
    text: str
    language: Language
    planted: tuple[str, ...]


def generate_notes(count: int, seed: int, *, chinese: float = 0.3) -> list[Note]:
    """Write `count` notes of invented patients, one to four notes each, `chinese` of the patients in Chinese.

    Raises: ConfigError when `count` is negative or `chinese` outside [0, 1].
    Edge case: 0 gives an empty list.
    """
    if count < 0 or not 0.0 <= chinese <= 1.0:
        raise ConfigError("notes cannot be made", expected="a count of 0 or more and a share of Chinese in [0, 1]")
    rng = Random(seed)
    notes: list[Note] = []
    number = 0
    while len(notes) < count:
        department = rng.choice(phrases.DEPARTMENTS)
        language = Language.CHINESE if rng.random() < chinese else Language.ENGLISH
        child = rng.random() < (0.95 if department == "paediatrics" else 0.1)
        person = make_person(rng, number, language, child=child)
        number += 1
        for _ in range(min(rng.randint(1, 4), count - len(notes))):
            here = department if rng.random() < 0.9 else rng.choice(phrases.DEPARTMENTS)
            notes.append(_write_note(rng, person, here))
    rng.shuffle(notes)
    return notes


def _write_note(rng: Random, person: Person, department: str) -> Note:
    english = person.language is Language.ENGLISH
    values = _values(rng, person)
    openings = phrases.OPENINGS_EN if english else phrases.OPENINGS_ZH
    closings = phrases.CLOSINGS_EN if english else phrases.CLOSINGS_ZH
    frames = (rng.choice(openings), rng.choice(closings))
    used = {field for frame in frames for _, field, _, _ in Formatter().parse(frame) if field}
    opening, closing = (frame.format(**values) for frame in frames)
    body = _body(rng, department, person.language)
    return Note(
        patient_id=person.patient_id,
        name=person.name,
        mrn=person.mrn,
        phone=person.phone,
        address=person.address,
        dob=person.born.isoformat(),
        hospital=person.hospital,
        department=department,
        text=(" " if english else "").join((opening, *body, closing)),
        language=person.language,
        planted=tuple(sorted({values[field] for field in used - _PLAIN})),
    )


def _values(rng: Random, person: Person) -> dict[str, str]:
    visit = FIRST_DAY + datetime.timedelta(days=rng.randrange(700))
    phone = person.phone
    if person.language is Language.ENGLISH and rng.random() < 0.4:
        phone = f"({phone[:3]}) {phone[4:]}"  # the column's number in another spelling
    return {
        "name": person.name,
        "surname": person.surname,
        "title": person.title,
        "mrn": person.mrn,
        "patient_id": person.patient_id,
        "phone": phone,
        "address": person.address,
        "email": person.email,
        "resident_id": person.resident_id,
        "hospital": person.hospital,
        "doctor": person.doctor,
        "kin": person.kin,
        "kin_phone": person.kin_phone,
        "desk_phone": person.desk_phone,
        "dob": _spell_date(rng, person.born, person.language),
        "visit": _spell_date(rng, visit, person.language),
        "age": str((visit - person.born).days // 366),
    }


def _spell_date(rng: Random, date: datetime.date, language: Language) -> str:
    if rng.random() < 0.3:
        return date.isoformat()
    if language is Language.CHINESE:
        return f"{date.year}年{date.month}月{date.day}日"
    # Not strftime's %B: the month's name would follow the locale.
    return rng.choice((f"{date.day} {_MONTHS[date.month - 1]} {date.year}", date.strftime("%d/%m/%Y")))


def _body(rng: Random, department: str, language: Language) -> list[str]:
    chosen: list[str] = []
    wanted = rng.randint(3, 5)
    while len(chosen) < wanted:
        sentence = rng.choice(_bank(rng, department, language))
        if sentence not in chosen:
            chosen.append(sentence)
    return [_fill(rng, sentence, language) for sentence in chosen]


def _bank(rng: Random, department: str, language: Language) -> tuple[str, ...]:
    """The sentences to choose from: the department's own, a pair's, general ones or another department's."""
    english = language is Language.ENGLISH
    own = phrases.OWN_EN if english else phrases.OWN_ZH
    shared = phrases.SHARED_EN if english else phrases.SHARED_ZH
    draw = rng.random()
    if draw < _OWN:
        return own[department]
    if draw < _OWN + _SHARED:
        return rng.choice([sentences for pair, sentences in shared.items() if department in pair])
    if draw < _OWN + _SHARED + _GENERAL:
        return phrases.GENERAL_EN if english else phrases.GENERAL_ZH
    return own[rng.choice(phrases.DEPARTMENTS)]


def _fill(rng: Random, sentence: str, language: Language) -> str:
    filled = sentence.format(**{name: rng.choice(few) for name, few in phrases.FILLERS[language.value].items()})
    return filled[0].upper() + filled[1:]
