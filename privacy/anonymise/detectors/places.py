"""Postal addresses by their build: a house number and a street word, a unit, a box, a postcode."""

from __future__ import annotations

from privacy.anonymise.detectors.base import RuleDetector, rule
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|"
    "PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR"
)
_NAME = r"(?:\p{Lu}[\pL\pM'-]*\.?|\d{1,4}(?:st|nd|rd|th)?)"
_WORD = r"\p{Lu}[\pL\pM'.-]*"
_STREET = (
    r"(?i:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|ter|way|"
    r"parkway|pkwy|highway|hwy|circle|cir|crescent|close|trail|row|walk|broadway|alley)\b\.?"
)
_UNIT = r"(?i:apt|apartment|suite|ste|unit|room|floor|flat|building|bldg)\b\.?\s?#?\d[\pL0-9-]{0,5}"
_SUFFIX = (
    r"(?:straße|strasse|straat|weg|gasse|gade|vej|veien|vegen|vägen|gatan|gata|plein|laan|allee|platz|"
    r"damm|ring|kade|gracht|dreef|katu|tie|gränd|väg)"
)
_SUFFIXED = rf"\p{{Lu}}[\pL\pM]*{_SUFFIX}"
_PREFIX = (
    r"(?i:rue|via|calle|avenida|avda|avinguda|carrer|piazza|viale|corso|rua|plaza|paseo|camino|carretera|place|"
    r"chemin|allée|boulevard|ul|ulica|c/)\.? "
)
_PREFIXED = rf"{_PREFIX}(?:(?i:de|del|della|des|du|la|las|los|le|el|san|l')\s)*"
_STREETS = r" (?:Street|Avenue|Boulevard|Road|Lane|Drive)\b"
_AFTER = rf"(?:,?\s{{1,3}}{_UNIT})?"
_TOWN = (
    rf"(?:\s?,\s{{0,2}}{_WORD}(?: {_WORD}){{0,3}})?(?:,?\s{{1,2}}(?:{STATES})\b)?(?:,?\s{{1,2}}\d{{5}}(?:-\d{{4}})?\b)?"
)


def address_rules() -> RuleDetector:
    """Street addresses of America and Europe, units, boxes, "Town, ST", postcodes of four countries."""
    return RuleDetector(
        "addresses",
        (
            rule(
                Kind.ADDRESS,
                rf"(?:\d{{1,3}} )?\d{{1,6}}[A-Za-z]?,?\s(?:(?:{_NAME}|&)\s){{1,4}}?{_STREET}{_AFTER}{_TOWN}",
                _is_street,
                hint=r"\d[A-Za-z]?,?\s[\p{Lu}\d&]",
            ),
            rule(
                Kind.ADDRESS,
                rf"(?i:the )?(?i:corner of) (?:{_NAME} |\d{{1,4}} |and |de |of ){{1,8}}?{_STREET}",
                hint="(?i)corner of ",
            ),
            rule(
                Kind.ADDRESS,
                r"(?im)^[ \t]*(?:(?:home|street|mailing|billing|postal|current|permanent)? ?address|residence)[ \t]*:"
                r"[ \t]*([^\n]{4,120}?)[ \t]*$",
                group=1,
                whole=False,
            ),
            rule(Kind.ADDRESS, r"\d{1,6} (?:[a-z]+ ){1,3}(?:street|avenue|road|boulevard|lane)\b", _is_street),
            rule(Kind.ADDRESS, rf"{_WORD}(?: {_WORD}){{0,2}}{_STREETS}", hint=_STREETS),
            rule(
                Kind.ADDRESS,
                rf"(?:\d{{1,5}},? )?{_SUFFIXED}\s\d{{1,4}}[a-z]?\b{_AFTER}{_TOWN}",
                hint=rf"{_SUFFIX}\s\d",
            ),
            rule(
                Kind.ADDRESS,
                rf"(?:\d{{1,5}},? )?\b{_PREFIXED}{_WORD}(?: {_WORD}){{0,3}},?\s(?:nº? ?)?\d{{1,4}}\b{_AFTER}{_TOWN}",
                hint=rf"\b{_PREFIX}",
            ),
            rule(
                Kind.ADDRESS,
                rf"\d{{1,5}},? {_PREFIXED}{_WORD}(?: {_WORD}){{0,3}}{_AFTER}{_TOWN}",
                hint=rf"\d,? {_PREFIX}",
            ),
            rule(Kind.ADDRESS, rf"\b{_UNIT}(?:\s(?i:box)\s\d+)?"),
            rule(Kind.ADDRESS, r"(?i)\b(?:p\.? ?o\.? box|postfach|apartado|psc)\s?#?\d+(?:,? box \d+)?"),
            rule(Kind.ADDRESS, r"\b(?:APO|FPO|DPO),? (?:AA|AE|AP) \d{5}(?:-\d{4})?"),
            rule(
                Kind.LOCATION,
                rf"{_WORD}(?: {_WORD}){{0,2}},\s(?:{STATES})\b(?:\s\d{{5}}(?:-\d{{4}})?)?",
                _is_town,
                hint=rf",\s(?:{STATES})\b",
            ),
            rule(Kind.ZIP, rf"\b(?:{STATES}),?\s{{1,2}}(\d{{5}}(?:-\d{{4}})?)\b", group=1),
            rule(Kind.ZIP, r"\b\d{5}-\d{4}\b"),
            rule(Kind.ZIP, r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|\b[A-Z]\d[A-Z] \d[A-Z]\d\b"),
        ),
    )


def _is_street(page: Page, start: int, end: int) -> bool:
    """A house number is no part of a date or a number, and a street does not run over an empty line."""
    return page.shadow[start - 1 : start] not in ("/", "-", ".", ":", "$") and "\n\n" not in page.shadow[start:end]


def _is_town(page: Page, start: int, end: int) -> bool:
    # "Denver, CO" and "Patient, MD" are built alike: a degree after a name is hidden as part of the name, not here.
    return not page.shadow[start:end].endswith(", MD") or page.shadow[end : end + 1].isdigit()
