"""What may be found in a text: the kinds of identifiers, and where one was found.

The kinds are the eighteen identifiers of the HIPAA Safe Harbor method (45 CFR 164.514(b)(2)(i)), the payment data of
PCI DSS and the identifiers that Chinese records carry, told apart as far as a profile may want to treat them apart.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """A kind of identifier. The value is the key that profiles use; its upper case is the tag put into the text."""

    NAME = "name"
    DATE = "date"
    AGE = "age"
    ADDRESS = "address"
    LOCATION = "location"
    REGION = "region"
    ZIP = "zip"
    PHONE = "phone"
    EMAIL = "email"
    URL = "url"
    IP = "ip"
    RECORD_NUMBER = "record_number"
    PLAN_NUMBER = "plan_number"
    ACCOUNT = "account"
    CARD = "card"
    IBAN = "iban"
    NATIONAL_ID = "national_id"
    LICENCE = "licence"
    DEVICE = "device"
    PLATE = "plate"
    ORGANISATION = "organisation"
    SEX = "sex"
    """Sex or gender: no identifier of its own, but with age and place it tells persons apart."""
    PROFESSION = "profession"
    CODE = "code"
    """A long number or a code of letters and digits that no other detector could name."""
    OTHER = "other"
    """A capitalised word that no lexicon knows, a weekday, a value of the record itself of no known kind."""


VAGUE = frozenset({Kind.CODE, Kind.OTHER})
"""Kinds that say that something is hidden, and not what."""


class Span(NamedTuple):
    """A detector's proposal: `start` and `end` are offsets in the page's shadow, not in the original text."""

    start: int
    end: int
    kind: Kind


class Finding(NamedTuple):
    """A hidden stretch of the ORIGINAL text: `text[start:end]`, offsets in Unicode code points, `start < end`."""

    start: int
    end: int
    kind: Kind
    detector: str
