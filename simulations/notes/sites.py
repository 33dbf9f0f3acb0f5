"""Notes dealt to sites that differ, as hospitals do: by what they treat and by the language they write in."""

from __future__ import annotations

from random import Random

from privacy.errors import ConfigError
from simulations.notes.generate import Note
from simulations.notes.people import Language
from simulations.notes.phrases import DEPARTMENTS

_FAVOURED, _OTHER = 6.0, 1.0
_MANY_CHINESE, _FEW_CHINESE = 5.0, 1.0


def skewed_sites(notes: list[Note], sites: int, seed: int) -> list[list[Note]]:
    """Deal patients to `sites` sites: each favours two departments, and every third site writes mostly Chinese.

    All notes of one patient stay at one site; every note goes somewhere; every site gets at least one patient. The same
    arguments give the same lists in every process.

    Raises: ConfigError when `sites` is below 1 or when there are fewer patients than sites.
    """
    patients: dict[str, list[Note]] = {}
    for note in notes:
        patients.setdefault(note.patient_id, []).append(note)
    if not 1 <= sites <= len(patients):
        raise ConfigError(
            "the notes cannot be dealt to that many sites",
            expected=f"1 to {len(patients)} sites, one patient or more each",
            found=str(sites),
        )
    rng = Random(seed)
    order = list(patients.values())
    rng.shuffle(order)
    dealt: list[list[Note]] = [[] for _ in range(sites)]
    for position, records in enumerate(order):
        # The first patients make sure that no site is empty; the others go where they are likely to.
        site = position if position < sites else rng.choices(range(sites), _weights(records[0], sites))[0]
        dealt[site].extend(records)
    return dealt


def _weights(note: Note, sites: int) -> list[float]:
    """How likely each site is to see this patient, by the department and language of one note."""
    department = DEPARTMENTS.index(note.department)
    chinese = note.language is Language.CHINESE
    weights = []
    for site in range(sites):
        favoured = department in (2 * site % len(DEPARTMENTS), (2 * site + 1) % len(DEPARTMENTS))
        mostly_chinese = site % 3 == 0
        language = _MANY_CHINESE if chinese == mostly_chinese else _FEW_CHINESE
        weights.append((_FAVOURED if favoured else _OTHER) * language)
    return weights
