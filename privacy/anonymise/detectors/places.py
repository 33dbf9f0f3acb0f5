"""Postal addresses by their build: a house number and a street word, a unit, a box, a postcode."""

from __future__ import annotations

import re

from privacy.anonymise.detectors.base import Rule, RuleDetector, rule
from privacy.anonymise.detectors.vocabularies import vocabulary_of
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
_RISE = r"(?:Hill|Gardens|Grove|Mews|Rise|Heights|Plaza|Loop|Pike|Turnpike|Wharf|Quay)\b"
"""Words that a street of a number and capitals alone ends with: "12 Upper Tulse Hill"."""
_HOUSE = r"\d{1,6}(?:-\d{1,5})?[A-Za-z]?"
_UNIT = r"(?i:apt|apartment|suite|ste|unit|room|floor|flat|building|bldg)\b\.?\s?#?\d[\pL0-9-]{0,5}"
_SUFFIX = (
    r"(?:straße|strasse|straat|weg|gasse|gade|vej|veien|vegen|vägen|gatan|gata|plein|laan|allee|platz|"
    r"damm|ring|kade|gracht|dreef|katu|tie|gränd|väg|str\.)"
)
_STRASSE = r"(?:Straße|Strasse|Str\.|Allee|Platz|Weg|Ring|Damm|Ufer|Chaussee)"
_ORT = (
    r"(?:,?\s{1,2}(?:D-|A-|CH-|DE-)?\d{4,5}\s\p{Lu}[\pL\pM-]+"
    r"(?:(?: am | an der | im | bei | ob der |/)\p{Lu}[\pL\pM-]+)?)"
)
_SUFFIXED = rf"\p{{Lu}}[\pL\pM]*{_SUFFIX}"
_PREFIX = (
    r"(?i:rue|via|calle|avenida|avda|avinguda|carrer|piazza|viale|corso|rua|plaza|paseo|camino|carretera|place|"
    r"chemin|allée|boulevard|ul|ulica|c/)\.? "
)
_PREFIXED = rf"{_PREFIX}(?:(?i:de|del|della|des|du|la|las|los|le|el|san|l')\s)*"
_STREETS = r" (?:Street|Avenue|Boulevard|Road|Lane|Drive)\b"
_AFTER = rf"(?:,?\s{{1,3}}(?:{_UNIT}|#\s?\d?[\pL0-9-]{{1,5}}\b))?"
_TOWN = (
    rf"(?:\s?,\s{{0,2}}{_WORD}(?: {_WORD}){{0,3}})?(?:,?\s{{1,2}}(?:{STATES})\b)?(?:,?\s{{1,2}}\d{{5}}(?:-\d{{4}})?\b)?"
)
_SMALL = r"(?:street|avenue|road|boulevard|lane|ave|rd|blvd|ln|pkwy|hwy|parkway|highway|drive|court|terrace|st|dr|ct)"
_SMALL_TAIL = (
    rf"(?:,? (?:(?:apt|apartment|unit|suite|ste)\.? ?#?|#)\d?[a-z0-9-]{{1,5}}\b)?"
    rf"(?:,? (?:[a-z]+ ){{1,3}}(?:{STATES.lower()}),? \d{{5}}\b)?"
)
_ENDS_ADDRESS = (
    r"(?:\.\s|[.,]?$|[;\n()?!]|,?\s(?:with|and|who|since|for|which|where|when|alone|near|because|but|was|is|has|had|"
    r"seen|admitted|presents?|presented|came|called|on|phone|tel|cell|aged?|dob|mrn|ssn|email|in the|until|from)\b)"
)
_SHORT = frozenset({"st", "dr", "ct", "drive", "court", "terrace"})
"""Small-letter words that seldom mean a street: "seen by dr"."""
_NO_STREETS = frozenset(
    [
        "the",
        "a",
        "an",
        "my",
        "his",
        "her",
        "this",
        "that",
        "your",
        "our",
        "their",
        "its",
        "down",
        "per",
        "every",
        "each",
        "same",
        "off",
        "on",
        "in",
        "of",
        "across",
        "other",
        "by",
        "to",
        "with",
        "or",
        "for",
        "from",
        "times",
        "days",
        "weeks",
        "hours",
        "minutes",
        "miles",
        "years",
        "months",
        "mg",
        "ml",
        "blocks",
        "mile",
        "minute",
        "day",
        "week",
        "hour",
    ]
)
_DIRECTIONS = frozenset(["n", "s", "e", "w", "ne", "nw", "se", "sw", "north", "south", "east", "west"])
_ENDING = re.compile(_SMALL)
_PAGE = re.compile(r"\d+ *\n\n")
_CODES = re.compile(r"[A-Za-z]{0,3}\d{1,2}")


def address_rules() -> RuleDetector:
    """Street addresses of America and Europe, units, boxes, "Town, ST", postcodes of four countries."""
    return RuleDetector(
        "addresses",
        (
            rule(
                Kind.ADDRESS,
                rf"(?:\d{{1,3}} )?{_HOUSE},?\s(?:(?:{_NAME}|&)\s){{1,4}}?(?:{_STREET}|{_RISE}){_AFTER}{_TOWN}",
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
            rule(Kind.ADDRESS, rf"{_WORD}(?: {_WORD}){{0,2}}{_STREETS}", hint=_STREETS),
            *_small_letters(),
            *_german(),
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


def _small_letters() -> tuple[Rule, ...]:
    """Streets in small letters, numbers in words, country routes, what follows "lives at"."""
    return (
        rule(
            Kind.ADDRESS,
            rf"\d{{1,6}}[a-z]? (?:(?:[a-z]+\.?|\d{{1,3}}(?:st|nd|rd|th)) ){{1,3}}?{_SMALL}\b\.?{_SMALL_TAIL}",
            _is_small_street,
            hint=rf"[a-z.] {_SMALL}\b",
        ),
        rule(
            Kind.ADDRESS,
            rf"\b(?:One|Two|Three|Four|Five|Six|Seven|Eight|Nine|Ten|Twelve) (?:\p{{Lu}}[\pL\pM'-]*\s){{1,3}}?"
            r"(?:Street|Avenue|Ave|Road|Boulevard|Blvd|Lane|Drive|Court|Place|Plaza|Square|Way|Parkway|Terrace|Circle)\b"
            rf"{_AFTER}{_TOWN}",
        ),
        rule(
            Kind.ADDRESS,
            r"(?i)\b(?:rural route|r\.?r\.?|h\.?c\.?|highway contract|star route) #?\d{1,4},? box #?\d{1,5}[a-z]?",
        ),
        rule(
            Kind.ADDRESS,
            r"(?i)\b(?:liv(?:es?|ing|ed)|resid(?:es?|ing|ed)|stay(?:s|ing)|address is|moved) (?:at|to)? ?"
            rf"(\d[^\n;]{{3,80}}?){_ENDS_ADDRESS}",
            _is_home,
            group=1,
        ),
    )


def _german() -> tuple[Rule, ...]:
    """Streets with the number behind: "Hauptstr. 12, 80331 München", "Am Markt 5, 12345 Neustadt"."""
    return (
        rule(
            Kind.ADDRESS,
            rf"(?:\d{{1,5}},? )?{_SUFFIXED}\s\d{{1,4}}[a-z]?\b(?:{_ORT}|{_AFTER}{_TOWN})",
            hint=rf"{_SUFFIX}\s\d",
        ),
        rule(
            Kind.ADDRESS,
            rf"\p{{Lu}}[\pL\pM.-]+ {_STRASSE}\s\d{{1,4}}[a-z]?\b(?:{_ORT}|{_TOWN})",
            hint=rf" {_STRASSE}\s\d",
        ),
        rule(
            Kind.ADDRESS,
            rf"\b(?:Am|An de[rnm]|Auf de[rnm]|Im|In der|Unter den|Zum|Zur) \p{{Lu}}[\pL\pM-]+ \d{{1,4}}[a-z]?{_ORT}",
        ),
    )


def _is_street(page: Page, start: int, end: int) -> bool:
    """A house number is no part of a date or a number, and no number of a page above an empty line."""
    first, _ = page.widened(start, min(end, start + 1))
    code = page.shadow[first].isalpha() and _CODES.fullmatch(page.shadow, first, page.shadow.find(" ", first, end))
    if code or _PAGE.match(page.shadow, start, end):
        return False
    return page.shadow[start - 1 : start] not in ("/", "-", ".", ":", "$")


def _is_small_street(page: Page, start: int, end: int) -> bool:
    """ "5 minutes down the road" is no street; "st" and "dr" need a word that no list knows, or a direction."""
    words = [word.strip(".,") for word in page.shadow[start:end].split()]
    last = next(index for index, word in enumerate(words) if index > 1 and _ENDING.fullmatch(word))
    between = words[1:last]
    if not _is_street(page, start, end) or not _NO_STREETS.isdisjoint(between):
        return False
    if words[last] not in _SHORT:
        return True
    known = vocabulary_of(page).known
    return any(word in _DIRECTIONS or word[0].isdecimal() or not known(word) for word in between)


def _is_home(page: Page, start: int, end: int) -> bool:
    """ "lives at 2 places" is no address: one has a capital after its number, or a word that no list knows."""
    words = [word for word in page.words_of(start, end) if word.lower not in _NO_STREETS]
    known = vocabulary_of(page).known
    return any(word.text[0].isupper() or not known(word.lower) for word in words)


def _is_town(page: Page, start: int, end: int) -> bool:
    # "Denver, CO" and "Patient, MD" are built alike: a degree after a name is hidden as part of the name, not here.
    return not page.shadow[start:end].endswith(", MD") or page.shadow[end : end + 1].isdigit()
