"""Identifiers in Spanish notes: forms with labels, ages, months, hospitals, streets, telephones."""

from __future__ import annotations

from privacy.anonymise.calendar_words import MES
from privacy.anonymise.detectors.base import Rule, RuleDetector, rule
from privacy.anonymise.detectors.vocabularies import vocabulary_of
from privacy.anonymise.kinds import Kind
from privacy.anonymise.page import Page

_UP = r"(?:\p{Lu}[\pL\pM'-]{2,}|\p{Lu}[\pL\pMªº]{0,2}\.?)"
_JOIN = r"(?:de|del|la|las|los|el|y|i|d'|l'|en|San|Sta\.|St\.)"
_OF = r"(?:(?:de|del|la|las|los|el) ){0,2}"
_NAME = rf"{_UP}(?: (?:{_JOIN} ){{0,3}}{_UP}){{0,7}}"
_PERSON = rf"({_UP}(?:[ -](?:(?:de|del|la|las|los|i|y) ){{0,2}}{_UP}){{0,4}})"
_TOWN = rf"({_UP}(?: {_OF}{_UP}){{0,3}})"
_POSTCODE = r"(?:0[1-9]|[1-4]\d|5[0-2])\d{3}"
_ROAD = (
    r"(?:[Cc]alle|[Cc]/|C\.|[Aa]venida|[Aa]vda\.?|[Aa]v\.?|[Pp]laza|[Pp]za\.?|Plza\.?|Pl\.|[Pp]laça|[Pp]aseo|"
    r"P[ºo°]\.?|[Pp]asseig|[Cc]tra\.?|[Cc]arretera|[Cc]amino|[Rr]onda|[Tt]ravesía|[Tt]rav\.|[Vv]ía|[Gg]ran [Vv]ía|"
    r"[Uu]rb\.|[Uu]rbanización|[Rr]ambla|[Pp]olígono|[Gg]lorieta|[Cc]allejón|[Cc]uesta|[Pp]asaje|[Bb]arrio|"
    r"[Bb]arriada|[Cc]arrer|[Aa]vinguda|[Rr]úa)"
)
_ROAD_NAME = rf"(?:(?:{_JOIN}|{_JOIN} {_JOIN}) )?{_UP}(?:[ -]{{1,3}}(?:(?:{_JOIN} ){{0,2}}){_UP}){{0,6}}"
_DOOR = (
    r"(?:\s?,?\s?(?:n[º°o]\.?\s?|núm\.?\s?|número |Km\.? ?)?"
    r"\d{1,5}(?:[.,]\d{1,3})?(?:\s?[-/]\s?\d{1,4})?[ ]?[A-Za-z]?\b|\s?,?\s?[sS]/[nN]\.?)"
)
_FLOOR = (
    r"(?:\s?[,-]?\s?(?:\d{1,3}\s?[ºª°]\s?[A-Za-z]?\b|[Pp]iso \w+|[Pp]ta\.? ?\w+|[Pp]uerta \w+|[Pp]lanta \w+|"
    r"\d{1,3}[ -]?[A-Z]\b|bajos?\b|[Bb]ajo [A-Z]\b|[Ee]sc\.? \w+|[Bb]loque \w+|P\d+ \w+|"
    r"\d{1,3}(?:,\d{1,2})?\b|\d[ªº])){0,3}"
)
_SITE = (
    r"(?:Hospital|Hospitales|H\.|Hosp\.|HU|HGU|Clínica|Clinica|Policlínico|Policlínica|Sanatorio|Complejo|Centro|"
    r"C\.S\.|CAP|Ambulatorio|Consultorio|Instituto|Institut|Fundación|Fundació|Universidad|Universitat|Facultad|"
    r"Facultat|Residencia|Colegio|Escuela|Banco|Caja|Asociación|Corporació|Corporación|Consorcio|Mutua|"
    r"Laboratorios?|Unidad Docente|Agencia|Dirección General|Consejería|Ministerio|Área Sanitaria|Gerencia|"
    r"Maternidad|Institución)"
)
_PATIENT = (
    r"(?:paciente|var[oó]n|mujer|hombre|ni[ñn][oa]|lactante|neonato|señora?|joven|chic[oa]|hij[oa]|bebé|"
    r"recién nacid[oa]|ancian[oa]|masculino|femenino|gestante|primigesta|madre|padre|herman[oa])"
)
_SPAN = r"(?:años|meses|días|semanas)"
_LABELS: dict[Kind, str] = {
    Kind.NAME: (
        r"nombre(?: y apellidos)?|apellidos?|paciente|m[eé]dico|doctora?|enfermer[oa]|responsable(?: clínico)?|"
        r"remitid[oa] por|firmado(?: por)?|fdo\.?|titular|solicitante|autor|cirujan[oa]"
    ),
    Kind.ADDRESS: r"domicilio|direcci[oó]n|residencia",
    Kind.LOCATION: (
        r"localidad ?/? ?(?:provincia)?|provincia|municipio|ciudad|poblaci[oó]n|lugar de nacimiento|natural de"
    ),
    Kind.REGION: r"pa[ií]s|nacionalidad",
    Kind.ZIP: r"cp|c\.p\.|c[oó]digo postal",
    Kind.PLAN_NUMBER: r"nass|n[º°]? ?(?:de )?afiliaci[oó]n|seguridad social|tarjeta sanitaria|cip|cipa|póliza",
    Kind.RECORD_NUMBER: (
        r"nhc|n[º°]? ?(?:de )?historia(?: cl[ií]nica)?|historia n[º°]|episodio|n[º°] ?episodio|expediente"
    ),
    Kind.LICENCE: r"n[º°o]?\.? ?col(?:egiad[oa])?\.?|colegiad[oa](?: n[º°])?",
    Kind.NATIONAL_ID: r"dni|nif|nie|pasaporte",
    Kind.PHONE: r"tel[eé]fonos?|tel\.?|tfno\.?|tlf\.?|tfn\.?|m[oó]vil|fax|busca",
    Kind.DATE: r"fecha(?: de)?(?: (?:nacimiento|ingreso|alta|consulta|informe|exitus))?|f\. ?nac\.?",
    Kind.PROFESSION: r"profesi[oó]n|ocupaci[oó]n",
}
_WORDED = frozenset({Kind.NAME, Kind.ADDRESS, Kind.LOCATION, Kind.REGION, Kind.PROFESSION})
_NUMBER = r"((?:[A-Za-z]{0,4}[-/. ]?)?\+?\d[\dA-Za-z]*(?:[ ./-]{1,2}\d[\dA-Za-z]*)*)"
_LINE = r"([^\n:]{1,80}?)[ \t]*(?:\.[ \t]*$|\.?$|,? {2,}|N[º°]Col|NHC:|NASS:)"


def spanish_rules() -> RuleDetector:
    """Labels of forms ("Domicilio:"), ages with their unit, months with a year, hospitals, streets, telephones."""
    labels = tuple(_labelled(kind, label) for kind, label in _LABELS.items())
    return _SpanishRules("spanish", (*labels, *_ages(), *_dates(), *_places(), *_numbers()))


def _ages() -> tuple[Rule, ...]:
    return (
        rule(Kind.AGE, rf"(?i)\b(\d{{1,3}} {_SPAN}(?: y \d{{1,2}} meses)?) de (?:edad|vida)\b", group=1),
        rule(Kind.AGE, rf"(?i)\b{_PATIENT}(?:,? [\pL]+){{0,3}}?,? de (\d{{1,3}} (?:{_SPAN}|a\.))", group=1),
        rule(Kind.AGE, rf"(?i)\bedad\s?:\s?(\d{{1,3}}(?: ?(?:{_SPAN}|a))?)\b", group=1),
        rule(Kind.AGE, r"(?i)^ ?(\d{1,3} años)\b", group=1),
    )


def _dates() -> tuple[Rule, ...]:
    of_year = r"(?:,? (?:de |del |del año |de el )?(?:18|19|20)\d{2})"
    short = r"(?:ene|feb|mar|abr|may|jun|jul|ago|sept?|oct|nov|dic)\.?"
    before_year = r"(?:en|desde|hasta|año|el año|de|del|y|entre)"
    return (
        rule(Kind.DATE, rf"(?i)\b(?:\d{{1,2}}(?:º)? (?:de )?)?{MES}{of_year}\b"),
        rule(Kind.DATE, rf"(?i)\b\d{{1,2}}[ -](?:de )?{MES}\b(?:[ -](?:de(?:l)? )?\d{{2,4}}\b)?"),
        rule(Kind.DATE, rf"(?i)\b\d{{1,2}}[-/. ](?:de )?{short}[-/. ](?:de )?\d{{2,4}}\b|\b{short}[-/]\d{{2,4}}\b"),
        rule(Kind.DATE, rf"(?i)\b(?:en|de|desde|hasta|durante|del mes de|mes de|pasado|el) ({MES})\b", group=1),
        rule(Kind.OTHER, rf"(?i)\b{before_year} ((?:19[3-9]|20[0-4])\d)\b", _is_year, group=1),
    )


def _places() -> tuple[Rule, ...]:
    from_where = r"(?i:natural|procedente|residente|vecin[oa]|originari[oa])"
    return (
        rule(Kind.ADDRESS, rf"\b{_ROAD}\s{{0,2}}{_ROAD_NAME}(?:{_DOOR}{_FLOOR})?", _is_street),
        rule(Kind.ADDRESS, r"(?i)\b(?:apartado(?: de correos)?|apdo\.?) (?:n[º°] )?\d{1,6}"),
        rule(Kind.ORGANISATION, rf"\b{_SITE} (?:(?:de|del|de la|de los|de las|la|el|d') ?){{0,2}}{_NAME}", _is_site),
        rule(Kind.ZIP, rf"\b((?:E-|ES-)?{_POSTCODE})[-,.]? {{1,2}}{_UP}", group=1),
        rule(Kind.LOCATION, rf"\b{_POSTCODE}[-,.]? {{1,2}}{_TOWN}", group=1),
        rule(Kind.LOCATION, rf"\b{from_where} (?:de|en) {_TOWN}", group=1),
    )


def _numbers() -> tuple[Rule, ...]:
    title = r"(?:D\.|D\.ª|Dª\.?|Dña\.?|Don|Doña|Sr\.?|Sra\.?|Dr\.?|Dra\.?|DR\.|DRA\.|Dres\.?)"
    return (
        rule(Kind.PHONE, r"(?:\+34[ .-]?|0034[ .-]?)\d{2,3}(?:[ .-]?\d{2,3}){2,3}", _is_nine),
        rule(Kind.PHONE, r"\b[6789]\d{2}[ .-]\d{3}[ .-]\d{3}\b|\b[6789]\d{2}[ .-]\d{2}[ .-]\d{2}[ .-]\d{2}\b"),
        rule(Kind.NAME, rf"\b{title}[: ]{{0,2}}{_PERSON}", group=1),
        rule(Kind.LICENCE, r"(?i)\bn[º°]?\.? ?col(?:egiad[oa])?\.?\s?:?\s?(\d[\d ]{2,14}\d)", group=1),
    )


class _SpanishRules(RuleDetector):
    """Rules that only a page in Spanish is read with: "Centro" and "de" are words of other languages, too."""

    def _matching(self, page: Page) -> tuple[Rule, ...]:
        return tuple(super()._matching(page)) if vocabulary_of(page).name == "es" else ()


def _labelled(kind: Kind, label: str) -> Rule:
    value = _LINE if kind in _WORDED else _NUMBER
    return rule(kind, rf"(?im)(?:^|[ \t.,;(/])(?:{label})[ \t]*:[ \t]*{value}", group=1, whole=False)


def _is_year(page: Page, start: int, end: int) -> bool:
    del start
    return page.shadow[end : end + 2].strip() not in ("mg", "ml", "g", "%")


def _is_nine(page: Page, start: int, end: int) -> bool:
    digits = sum(map(str.isdecimal, page.shadow[start:end]))
    return 9 <= digits <= 13


def _is_street(page: Page, start: int, end: int) -> bool:
    """A street has a number, or a word that is no common one: "vía oral" and "C. Difficile" are none."""
    value = page.shadow[start:end]
    if any(map(str.isdecimal, value)) or "/n" in value.lower():
        return not value.startswith("C.") or len(value) > 8
    if value.startswith("C."):
        return False
    words = [word.lower for word in page.words_of(start, end)]
    return value[0].isupper() and len(words) > 1 and not all(map(vocabulary_of(page).known, words[1:]))


def _is_site(page: Page, start: int, end: int) -> bool:
    """The words after "Hospital" are not all common ones; but a row of three is a name whatever its words are."""
    words = [word for word in page.words_of(start, end) if word.text[0].isupper()]
    if words[0].lower in ("centro", "complejo", "unidad", "caja", "agencia"):
        return len(words) > 2 or not vocabulary_of(page).known(words[-1].lower)
    return len(words) > 1
