"""Spanish notes: labels of forms, names by title, ages, months, hospitals, streets; medicine with capitals stays."""

from __future__ import annotations

import pytest

from privacy.anonymise import Anonymiser, load_profile
from privacy.anonymise.detectors.vocabularies import language_of
from tests.privacy.anonymise.tools import redact

NOTE = "El paciente acude a la consulta por dolor en el abdomen de tres días. "
"""What makes the page a Spanish one."""


def spanish(text: str, profile: str = "strict") -> str:
    shown = redact(NOTE + text, profile)
    assert shown.startswith(NOTE)
    return shown.removeprefix(NOTE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Atendido por D. Joaquín Solvés.", "Atendido por [NAME]."),
        ("Dña. Mercè Oriol Vidal refiere mejoría", "[NAME] refiere mejoría"),
        ("Remitido por: Anna Bujons Tur.", "Remitido por: [NAME]."),
        ("vive en C/ Manuel Silvela nº 2, 6º A", "vive en [ADDRESS]"),
        ("vive en Avda. Reyes Católicos, 14", "vive en [ADDRESS]"),
        ("visto en el Hospital Universitario Virgen del Rocío.", "visto en el [ORGANISATION]."),
        ("teléfono 633 349 565", "teléfono [PHONE]"),
        ("llamar al +34 945 007 000", "llamar al [PHONE]"),
        ("con DNI 54362315K", "con DNI [NATIONAL_ID]"),
        ("NHC: 2569870.", "NHC: [RECORD_NUMBER]."),
        ("NASS: 26 63514095 77.", "NASS: [PLAN_NUMBER]."),
        ("NºCol: 28 28 20943.", "NºCol: [LICENCE]."),
        ("CP: 28035.", "CP: [ZIP]."),
        ("varón de 53 años", "[SEX] de [AGE]"),
        ("lactante de 5 meses", "lactante de [AGE]"),
        ("ingresa en octubre de 2006 por fiebre", "ingresa en [DATE] por fiebre"),
        ("el 14 de marzo de 2023", "el [DATE]"),
        ("nacido el 12-ene-1931", "nacido el [DATE]"),
        ("control en mar-22", "control en [DATE]"),
        ("domicilio: Calle Mayor 3", "domicilio: [ADDRESS]"),
    ],
)
def test_identifiers_of_spanish_notes(text: str, shown: str) -> None:
    assert spanish(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Exploración física normal. Abdomen blando.",
        "administrado por vía oral cada ocho horas",
        "Se realiza Tomografía de control",
        "durante 20 años tuvo tos",
        "dosis de 3 ago y ene-3",
        "Diagnóstico: neumonía adquirida",
        "el centro de la lesión",
    ],
)
def test_medicine_and_sentence_beginnings_stay(text: str) -> None:
    assert spanish(text) == text


def test_safe_harbor_keeps_ages_up_to_89_and_years() -> None:
    shown = spanish("Mujer de 53 años, vista en octubre de 2006. Varón de 91 años.", "hipaa-safe-harbor")
    assert shown == "Mujer de 53 años, vista en 2006. Varón de [AGE]."


@pytest.mark.parametrize(
    ("text", "language"),
    [(NOTE, "es"), ("The patient was seen at the clinic and is well", "en"), ("", "en"), ("患者张伟", "en"),
     ("de la", "en")],
)  # fmt: skip
def test_the_language_of_a_page(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_language_that_is_not_configured_is_not_read() -> None:
    only_english = Anonymiser(load_profile("strict"), None, languages=frozenset({"en"}))
    assert "del mes" in only_english.redact(NOTE + "NºCol: 28 28.").text + "del mes"
    assert only_english.redact("患者张伟，男").text == "患者张伟，[SEX]"
    assert redact("患者张伟，男", "strict") == "患者[NAME]，[SEX]"


def test_the_rules_of_spanish_are_not_run_on_english() -> None:
    text = "The Hospital Course was good and she is well."
    assert redact(text) == text
