"""What is written in the place of an identifier."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from privacy.anonymise.dateshift import shift_date
from privacy.anonymise.fakes import surrogate
from privacy.anonymise.identities import canonical
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page, fold_letters
from privacy.anonymise.profile import Profile, Treatment

_LABEL = b"cloister/v1/pseudonym"
_SHIFT_LABEL = b"cloister/v1/date-shift"
_LONGEST_SHIFT = 365
_CODE_BYTES = 5  # 40 bits: eight characters of base32; 1,000 persons share a code with probability 5e-7
_YEAR = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")
_COMPACT_YEAR = re.compile(r"^(?:19|20)\d\d(?=\d{4}$)")


class Surrogates:
    """Writes surrogates by a profile's treatments. The key never appears in them.

    Guarantees: a tag depends on the kind alone; a pseudonym is HMAC-SHA-256 of kind and value under the site's key, cut
    to 40 bits, so that without the key no list of names can be tried against it. Spelling that cannot tell persons
    apart (case, accents, spaces, punctuation, a title, a degree, the order of a name's words, a telephone number's
    country) does not change a pseudonym.
    """

    def __init__(self, profile: Profile, key: bytes | None) -> None:
        self._profile = profile
        self._key = key

    def write(
        self, value: str, kind: Kind, treatment: Treatment, person: str | None = None, same_as: str | None = None
    ) -> str:
        """The text that stands for `value`. `person`: whose it is; without, dates are not shifted but tagged.

        `same_as`: the value that this one is a writing of (`identities.Identities`); both have the same pseudonym.
        """
        if treatment is Treatment.TAG:
            return tag(kind)
        if treatment is Treatment.MASK:
            return _mask(value, keep=0)
        if treatment is Treatment.LAST_FOUR:
            return _mask(value, keep=4)
        if treatment is Treatment.YEAR:
            return self._year(value if value.isascii() else Page(value).shadow) or tag(kind)
        if treatment is Treatment.PSEUDONYM and self._key is not None:
            return self._pseudonym(same_as or value, kind, self._key)
        if treatment in (Treatment.SHIFT, Treatment.SURROGATE) and self._key is not None:
            return self._faked(value, kind, self._key, person, same_as or value)
        return tag(kind)

    def _faked(self, value: str, kind: Kind, key: bytes, person: str | None, same_as: str) -> str:
        if kind is Kind.DATE:
            days = 0 if person is None else shift_of(key, person)
            moved = shift_date(value, days, earliest_year=self._profile.earliest_year) if days else None
            return moved or tag(kind)
        return surrogate(value, kind, key, same_as) or tag(kind)

    def _year(self, value: str) -> str | None:
        # Two digits name no century: "'23" may be a birth in 1923, so it shows no year.
        years = {int(year) for year in _YEAR.findall(value) or _COMPACT_YEAR.findall(value)}
        if len(years) != 1 or min(years) < self._profile.earliest_year:
            return None
        return str(years.pop())

    def _pseudonym(self, value: str, kind: Kind, key: bytes) -> str:
        message = b"\0".join((_LABEL, kind.value.encode(), canonical(value, kind).encode("utf-8", "surrogatepass")))
        code = hmac.new(key, message, hashlib.sha256).digest()[:_CODE_BYTES]
        return f"[{kind.value.upper()}-{base64.b32encode(code).decode()}]"


def shift_of(key: bytes, person: str) -> int:
    """By how many days a person's dates move: -365 to 365 and never 0, by HMAC-SHA-256 under the site's key."""
    message = b"\0".join((_SHIFT_LABEL, fold_letters(person).encode("utf-8", "surrogatepass")))
    drawn = int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big") % (2 * _LONGEST_SHIFT)
    return drawn - _LONGEST_SHIFT if drawn < _LONGEST_SHIFT else drawn - _LONGEST_SHIFT + 1


def tag(kind: Kind) -> str:
    """The kind in upper case and brackets."""
    return _TAGS[kind]


_TAGS = {kind: f"[{kind.value.upper()}]" for kind in Kind}


def _mask(value: str, *, keep: int) -> str:
    """A `*` for each letter and digit but the last `keep` digits of a value that has more than twice as many."""
    digits = sum(character.isdecimal() for character in value)
    shown = keep if digits > 2 * keep else 0
    passed = 0
    masked = []
    for character in value:
        passed += character.isdecimal()
        visible = not character.isalnum() or (character.isdecimal() and passed > digits - shown)
        masked.append(character if visible else "*")
    return "".join(masked)
