"""Invented people and the identifiers that stand for them. Nobody here can be called, written to or visited.

Names are real as names and rare as strings: none is an English or a medical word, so a text that contains one leaks.
Telephone numbers are 555-0100 to 555-0199, set aside for fiction; Chinese mobile numbers begin with 154, which no
carrier holds; e-mail is at the domains of RFC 2606. Chinese resident ids have a valid check digit (GB 11643-1999, ISO
7064 MOD 11-2) and a birth date in the 1880s, decades before such a number was ever issued.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import Enum
from random import Random


class Language(Enum):
    """The language a note is written in."""

    ENGLISH = "en"
    CHINESE = "zh"


@dataclass(frozen=True, kw_only=True)
class Person:
    """A patient: the identifiers of the record's own columns, and those that its notes alone may hold."""

    language: Language
    patient_id: str
    name: str
    surname: str
    title: str
    mrn: str
    phone: str
    address: str
    email: str
    resident_id: str
    born: datetime.date
    hospital: str
    doctor: str
    kin: str
    kin_phone: str
    desk_phone: str


def _words(*lines: str) -> tuple[str, ...]:
    return tuple(" ".join(lines).split())


WOMEN = _words(
    "Branwen Calixta Dagmar Eszter Fionnuala Gwendolyn Jadwiga Katarzyna Leocadia Nikolina Parvaneh Quirina Rosalinde",
    "Svetlana Thandiwe Ulrikke Vasiliki Wilhelmina Xiomara Yevgenia Zsofia Anneliese Consuelo Evangelina Giuseppina",
    "Isadora Magdalena Nontando",
)
MEN = _words(
    "Aurelio Bartholomew Dimitrios Ferdinando Hermenegild Hjalmar Ignazio Joaquim Kwabena Mstislav Oswaldo Radomir",
    "Szymon Thaddeus Vyacheslav Zdzislaw",
)
SURNAMES = _words(
    "Abernathy Bjornstad Castellanos Dragomirov Eriksdottir Fitzwilliam Gunawardena Hathersage Ivankovic Jankowska",
    "Kowalczyk Lindqvist Mbekezeli Nakashima Ogunbanjo Papadakis Quarshie Ramaswamy Szczepanski Tchernov Umarova",
    "Vandersloot Wojtowicz Xanthakis Yamashiro Zolotarev Achterberg Buonarroti Chukwuemeka Delacroix Echeverria",
    "Featherstonhaugh Gebreselassie Hakobyan Iturralde Jayasuriya Kristjansson Lachapelle Montgomery Nyamwasa",
    "Oberholzer Przybylski Rautavaara Sokolowski Thorvaldsen Uchendu Villanueva Weatherby Zubiaurre Zvonareva",
)
GIVEN_ZH = _words(
    "思远 若曦 梓萱 浩然 雨桐 嘉懿 明轩 晓彤 志强 淑芬 国栋 美玲 文博 诗涵 俊杰 慧敏 建华 秀兰 子墨 欣怡",
    "天佑 婉清 承泽 佳宁 振宇 雪莹 云帆 静姝 永康 春燕",
)
SURNAMES_ZH = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧"
STREETS = _words("Thornquist Wexcombe Harlestead Ravenglass Quillmere Brannoc Ellersby Osmotherley")
ROADS = ("Avenue", "Road", "Lane", "Street")
STREETS_ZH = ("望岚路", "澄溪路", "青禾街", "听涛巷", "白榆路", "云杉街")
HOSPITALS = {
    Language.ENGLISH: (
        "Wexcombe Royal Infirmary",
        "Saint Brannoc Hospital",
        "Harlestead University Hospital",
        "Quillmere Memorial Hospital",
    ),
    Language.CHINESE: ("云溪市第一人民医院", "望岚大学附属医院", "青禾中心医院"),
}
AREA_CODES = ("206", "212", "305", "312", "404", "415", "617", "713")
REGIONS = ("110101", "310101", "120101")  # districts that never changed their code
MAIL_DOMAINS = ("example.org", "example.com", "example.net")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
FIRST_DAY = datetime.date(2024, 1, 1)  # visits are on this day or within the two years after it


def make_person(rng: Random, number: int, language: Language, *, child: bool) -> Person:
    """Invent a patient; `number` makes the patient id. A child is under 16 at every visit, an adult 20 to 89."""
    years = rng.randint(1, 12) if child else rng.randint(20, 86)
    born = FIRST_DAY - datetime.timedelta(days=365 * years + rng.randrange(365))
    woman = rng.random() < 0.5
    given, surname = rng.choice(WOMEN if woman else MEN), rng.choice(SURNAMES)
    english = language is Language.ENGLISH
    hospital = rng.choice(HOSPITALS[language])
    return Person(
        language=language,
        patient_id=f"P{100_000 + number}",
        name=f"{given} {surname}" if english else _chinese_name(rng),
        surname=surname,
        title="Ms" if woman else "Mr",
        mrn=f"{rng.randrange(10_000_000, 100_000_000)}",
        phone=_phone(rng, language),
        address=_address(rng) if english else _chinese_address(rng),
        email=f"{given}.{surname}{rng.randrange(100)}@{rng.choice(MAIL_DOMAINS)}".lower(),
        resident_id=_resident_id(rng),
        born=born,
        hospital=hospital,
        doctor=rng.choice(SURNAMES) if english else _chinese_name(rng),
        kin=f"{rng.choice(WOMEN + MEN)} {surname}" if english else _chinese_name(rng),
        kin_phone=_phone(rng, language),
        desk_phone=_phone(rng, language),
    )


def _chinese_name(rng: Random) -> str:
    return rng.choice(SURNAMES_ZH) + rng.choice(GIVEN_ZH)


def _phone(rng: Random, language: Language) -> str:
    if language is Language.CHINESE:
        return f"154{rng.randrange(10**8):08d}"
    return f"{rng.choice(AREA_CODES)}-555-01{rng.randrange(100):02d}"


def _address(rng: Random) -> str:
    return f"{rng.randint(2, 290)} {rng.choice(STREETS)} {rng.choice(ROADS)}, {rng.choice(STREETS)}"


def _chinese_address(rng: Random) -> str:
    return f"云溪市{rng.choice(STREETS_ZH)}{rng.randint(2, 290)}号{rng.randint(1, 9)}单元{rng.randint(101, 2804)}室"


def _resident_id(rng: Random) -> str:
    born = datetime.date(1880, 1, 1) + datetime.timedelta(days=rng.randrange(3650))
    body = f"{rng.choice(REGIONS)}{born:%Y%m%d}{rng.randrange(1, 1000):03d}"
    total = sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True))
    return body + "10X98765432"[total % 11]
