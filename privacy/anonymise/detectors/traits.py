"""What describes a person and tells them apart only together with other things: sex, and professions by their cue.

Profiles that hide direct identifiers alone keep them; the strictest hides them.
"""

from __future__ import annotations

from privacy.anonymise.detectors.base import RuleDetector, rule
from privacy.anonymise.kinds import Kind

_SEX = (
    r"male|female|man|woman|men|women|boy|girl|gentleman|lady|transgender (?:man|woman)|nonbinary|non-binary|"
    r"var[oó]n|varones|mujer|mujeres|hombre|hombres|niño|niña|masculin[oa]|femenin[oa]|ni[nñ][oa]s"
)


def person_rules() -> RuleDetector:
    """Words for a person's sex, the letter after a label, and what follows "works as a"."""
    return RuleDetector(
        "traits",
        (
            rule(Kind.SEX, rf"(?i)\b(?:{_SEX})\b"),
            rule(Kind.SEX, r"(?i)\b(?:sex|gender|sexo|género)\s?[:=]\s?([a-z]{1,12})\b", group=1),
            rule(Kind.SEX, r"\b\d{1,3} ?(?:yo|y/o|y\.o\.|yr old|year old|years old|-year-old)? ?([MF])\b", group=1),
            rule(Kind.SEX, r"(?:性别[:：]?\s?)([男女])", group=1),
            rule(Kind.SEX, r"[,，、 ]([男女])(?:[,，、。性 ]|$)", group=1),
            rule(
                Kind.PROFESSION,
                r"(?i)\b(?:works? as|worked as|working as|employed as|occupation\s?:|profession\s?:|job title\s?:|"
                r"by trade),? (?:an? |the )?([a-z]+(?:[ -][a-z]+)?)",
                group=1,
            ),
            rule(
                Kind.PROFESSION,
                r"(?i)\b(?:de profesi[oó]n|profesi[oó]n\s?:|ocupaci[oó]n\s?:|trabaja(?:ba)? (?:como|de)|oficio\s?:),? "
                r"(?:una? )?([\pL]+(?: de [\pL]+)?)",
                group=1,
            ),
            rule(Kind.PROFESSION, r"职业[:：]?\s?(\p{Han}{2,6})", group=1),
        ),
    )
