"""Writes the golden set beside it: `python -m tests.privacy.anonymise.golden.make`.

Each line is one text: `{"kind", "language", "text", "value"}` holds one identifier, `value` is where it stands; a near
miss holds none and has `value` null: a number with a wrong check, a word that looks like a name. Checks are counted
here by the definitions of the standards, not with the libraries that the product uses. The same seed makes the same
files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.privacy.anonymise.golden.writings import NEAR_MISSES, fill, split
from tests.privacy.anonymise.golden.writings import WRITINGS as IN_FRAMES

HERE = Path(__file__).parent
WRITINGS = 24
Case = tuple[str, str, str, str | None]
EPONYMS = (
    "Parkinson's disease", "Crohn's disease", "the Glasgow Coma Scale", "a Colles fracture", "Down syndrome",
    "Gleason score", "Wilson disease", "Foley catheter",
)  # fmt: skip
DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def luhn(body: str) -> str:
    """ISO/IEC 7812-1, annex B."""
    for last in "0123456789":
        total = 0
        for index, digit in enumerate(reversed(body + last)):
            value = int(digit) * (1 + index % 2)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return last
    raise ValueError(body)


def resident(body: str) -> str:
    """GB 11643-1999: ISO 7064 MOD 11-2."""
    return "10X98765432"[sum(int(digit) * (2 ** (17 - index) % 11) for index, digit in enumerate(body)) % 11]


def iban_check(country: str, account: str) -> str:
    """ISO 13616: MOD 97-10."""
    digits = "".join(str(int(mark, 36)) for mark in f"{account}{country}00")
    return f"{98 - int(digits) % 97:02}"


def nhs_check(body: str) -> str | None:
    """NHS Data Dictionary: weights 10 to 2, modulo 11; None where the body has no check digit."""
    check = 11 - sum(int(digit) * (10 - index) for index, digit in enumerate(body)) % 11
    return None if check == 10 else str(check % 11)


def uscc_check(body: str) -> str:
    """GB 32100-2015: weights 3^i modulo 31."""
    signs = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    total = sum(signs.index(mark) * pow(3, index, 31) for index, mark in enumerate(body))
    return signs[(31 - total % 31) % 31]


class Maker:
    """Draws values; every value of a kind is another one."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def digits(self, count: int) -> str:
        return "".join(self.draw.choices("0123456789", k=count))

    def card(self) -> str:
        body = self.draw.choice(["4", "51", "55", "62", "34"]) + self.digits(13)
        body = body[:15]
        return body + luhn(body)

    def resident(self) -> str:
        body = f"{self.draw.choice(['110101', '310104', '440305', '510107', '330106'])}"
        body += f"{self.draw.randint(1935, 2015)}{self.draw.randint(1, 12):02}{self.draw.randint(1, 28):02}"
        body += self.digits(3)
        return body + resident(body)

    def iban(self) -> str:
        country, size = self.draw.choice([("DE", 18), ("ES", 20), ("FR", 23), ("NL", 0), ("GB", 0)])
        account = self.digits(size)
        if country == "NL":
            account = "ABNA" + self.digits(10)
        if country == "GB":
            account = "WEST" + self.digits(14)
        return country + iban_check(country, account) + account

    def nhs(self) -> str:
        while True:
            body = self.digits(9)
            if (check := nhs_check(body)) is not None:
                return f"{body[:3]} {body[3:6]} {body[6:]}{check}"

    def dni(self) -> str:
        number = self.draw.randint(10_000_000, 99_999_999)
        return f"{number}{DNI_LETTERS[number % 23]}"

    def nie(self) -> str:
        lead = self.draw.choice("XYZ")
        body = self.digits(7)
        return f"{lead}{body}{DNI_LETTERS[int(str('XYZ'.index(lead)) + body) % 23]}"

    def ssn(self) -> str:
        return f"{self.draw.randint(101, 665)}-{self.draw.randint(11, 99)}-{self.draw.randint(1001, 9999)}"

    def uscc(self) -> str:
        body = "9144" + self.digits(4) + "MA" + self.digits(7)
        return body + uscc_check(body)

    def mobile(self) -> str:
        return self.draw.choice(["138", "139", "150", "177", "188", "199"]) + self.digits(8)

    def phone(self) -> str:
        return f"({self.draw.randint(212, 989)}) {self.draw.randint(221, 989)}-{self.digits(4)}"

    def phone_es(self) -> str:
        return f"{self.draw.choice('69')}{self.digits(2)} {self.digits(3)} {self.digits(3)}"

    def email(self) -> str:
        return (
            f"{self.draw.choice(['ana.k', 'j_poe', 'wang-5', 'r2d2'])}{self.digits(2)}@mail{self.digits(1)}.example.org"
        )

    def ip(self) -> str:
        return ".".join(str(self.draw.randint(1, 254)) for _ in range(4))

    def url(self) -> str:
        return f"https://portal{self.digits(2)}.example.com/r/{self.digits(5)}"

    def date(self) -> str:
        return f"{self.draw.randint(1950, 2024)}-{self.draw.randint(1, 12):02}-{self.draw.randint(1, 28):02}"

    def date_en(self) -> str:
        month = self.draw.choice(["January", "Feb.", "March", "Apr", "May", "June", "Sept.", "October", "December"])
        return f"{month} {self.draw.randint(1, 28)}, {self.draw.randint(1950, 2024)}"

    def date_es(self) -> str:
        month = self.draw.choice(["enero", "marzo", "abril", "junio", "agosto", "septiembre", "noviembre"])
        return f"{self.draw.randint(1, 28)} de {month} de {self.draw.randint(1950, 2024)}"

    def date_zh(self) -> str:
        return f"{self.draw.randint(1950, 2024)}年{self.draw.randint(1, 12)}月{self.draw.randint(1, 28)}日"

    def mrn(self) -> str:
        return self.draw.choice(["", "A", "H-", "00-"]) + self.digits(self.draw.randint(6, 9))

    def name_en(self) -> str:
        first = ["Mary", "James", "Patricia", "Robert", "Linda", "Gregory", "Deborah", "Kenneth"]
        last = ["Johnson", "Hernandez", "Kowalski", "Nguyen", "Abernathy", "Castillo", "Fitzgerald"]
        return f"{self.draw.choice(first)} {self.draw.choice(last)}"

    def name_es(self) -> str:
        first, last = ["Joaquín", "Begoña", "Andrés", "Lucía", "Íñigo"], ["Ibáñez", "Muñoz", "Solís", "Arroyo", "Peña"]
        return f"{self.draw.choice(first)} {self.draw.choice(last)} {self.draw.choice(last)}"

    def name_zh(self) -> str:
        return self.draw.choice("王李张刘陈杨赵黄周吴徐孙欧") [:1].replace("欧", "欧阳") + self.draw.choice(
            ["伟", "芳", "晓明", "丽娟", "建国", "雪梅", "志强", "思远"]
        )  # fmt: skip

    def plate_zh(self) -> str:
        return f"{self.draw.choice('京沪粤浙川')}{self.draw.choice('ABCDE')}{self.digits(5)}"

    def address_en(self) -> str:
        street = self.draw.choice(["Oak Street", "Maple Ave", "Elm Road", "Lincoln Blvd", "Birch Lane", "Cedar Drive"])
        return f"{self.draw.randint(2, 9999)} {street}"

    def address_zh(self) -> str:
        place = self.draw.choice(["北京市海淀区学院路", "上海市徐汇区漕溪北路", "广州市天河区体育西路"])
        return f"{place}{self.draw.randint(2, 300)}号{self.draw.randint(1, 30)}楼{self.draw.randint(101, 999)}室"

    def address_es(self) -> str:
        street = self.draw.choice(["Calle Mayor", "Avda. Reyes Católicos", "C/ Velázquez", "Plaza del Pilar"])
        return f"{street}, {self.draw.randint(2, 200)}"


EN = (
    "The patient gave {}.",
    "Please note {} for the file, thanks.",
    "({})",
    "it was {}; he agreed",
    "see {}\nnext line",
)
EN_CARD = ("paid by card {} today", "card no. {}.", "Visa {}, exp 04/27", "the card ({}) was lost", "debit card: {}\n")
ZH = ("患者登记{}，无不适。", "其{}已核对", "（{}）", "号码为{}。", "今日补录{}入档")
ES = ("El paciente aporta {} en la consulta de la tarde.", "Se anota {} para el informe y la historia.",
      "La familia dio ({}) a la enfermera de la planta.", "consta {}; la hija lo confirma en el ingreso")  # fmt: skip


def wrong(value: str, good: Callable[[str], bool]) -> str:
    """The value with its last mark changed so that its check fails."""
    for last in "0123456789ABCDEFGHJKLMNPQRTUWXY":
        if last != value[-1] and last.isdecimal() == value[-1].isdecimal() and not good(value[:-1] + last):
            return value[:-1] + last
    raise ValueError(value)


def spaced(value: str, index: int) -> str:
    """Another grouping each time: none, fours, hyphens, full width."""
    groups = [value[place : place + 4] for place in range(0, len(value), 4)]
    wide = "".join(chr(ord(mark) + 0xFEE0) if "0" <= mark <= "9" else mark for mark in value)
    return (value, " ".join(groups), "-".join(groups), value, wide)[index % 5]


def cases(maker: Maker) -> Iterator[Case]:
    plain: list[tuple[str, str, Callable[[], str], tuple[str, ...]]] = [
        ("national_id", "en", maker.ssn, EN),
        ("national_id", "en-gb", maker.nhs, ("NHS number {}", "her NHS no. {} ok")),
        ("national_id", "zh", maker.resident, ZH), ("national_id", "es", maker.dni, ES),
        ("national_id", "es-nie", maker.nie, ES), ("organisation", "zh-uscc", maker.uscc, ZH),
        ("phone", "en", maker.phone, EN), ("phone", "zh", maker.mobile, ZH), ("phone", "es", maker.phone_es, ES),
        ("iban", "en", maker.iban, EN), ("iban", "es", maker.iban, ES),
        ("date", "en", maker.date_en, EN), ("date", "zh", maker.date_zh, ZH), ("date", "es", maker.date_es, ES),
        ("record_number", "en", maker.mrn, ("MRN {} on file", "MRN: {}.", "medical record number {}", "chart # {} ok")),
        ("record_number", "zh", maker.mrn, ("住院号{}，", "病历号：{}。", "门诊号为{}，")),
        ("record_number", "es", maker.mrn, ("NHC: {}. El paciente está en la planta de la clínica.",)),
        ("name", "en", maker.name_en, ("Dr. {} saw him", "the patient {} left", "Signed by: {}.", "{} was well")),
        ("name", "zh", maker.name_zh, ("患者{}，男", "姓名：{} 性别", "由{}医生主刀", "联系人：{}（妻子）")),
        ("name", "es", maker.name_es, ("El paciente D. {} acude a la consulta.", "La Dra. {} ve a la paciente.")),
        ("plate", "zh", maker.plate_zh, ("车牌{}，", "驾驶{}来院")),
        ("address", "en", maker.address_en, ("lives at {}.", "moved to {} in May", "Address: {}\n")),
        ("address", "zh", maker.address_zh, ("现住{}，独居。", "地址：{}。")),
        ("address", "es", maker.address_es, ("La paciente vive en {} con la hija.", "Domicilio en {} desde la boda.")),
    ]  # fmt: skip
    for language, frames in (("en", EN), ("zh", ZH), ("es", ES)):
        for kind, make in (("email", maker.email), ("ip", maker.ip), ("url", maker.url), ("date", maker.date)):
            plain.append((kind, f"{language}-{kind}", make, frames))
    for kind, language, make, frames in plain:
        for index in range(WRITINGS):
            value = make()
            yield kind, language, frames[index % len(frames)].format(value), value
    for language, frames in (("en", EN_CARD), ("zh", ("银行卡号{}，", "刷卡{}付款", "卡{}遗失"))):
        for index in range(WRITINGS):
            value = spaced(maker.card(), index)
            yield "card", language, frames[index % len(frames)].format(value), value


def near_misses(maker: Maker) -> Iterator[Case]:
    """Numbers and words that look alike and are none of that kind."""
    for index in range(WRITINGS):
        frame = EN[index % len(EN)]
        body = maker.card()
        yield "card", "en", frame.format(wrong(body, lambda value: luhn(value[:-1]) == value[-1])), None
        made = maker.iban()
        yield "iban", "en", frame.format(wrong(made, lambda value: iban_ok(value))), None
        number = maker.dni()
        bad = next(letter for letter in DNI_LETTERS if letter != number[-1])
        yield "national_id", "es", ES[index % len(ES)].format(number[:-1] + bad), None
        made = maker.uscc()
        yield "organisation", "zh-uscc", ZH[index % len(ZH)].format(
            wrong(made, lambda value: uscc_check(value[:-1]) == value[-1])
        ), None  # fmt: skip
        octets = f"{maker.draw.randint(256, 999)}.{maker.digits(1)}.1.{maker.digits(1)}"
        yield "ip", "en", frame.format(octets), None
        yield "date", "en", frame.format(f"{maker.draw.randint(13, 28)}/{maker.draw.randint(32, 60)}/2020"), None
        yield "name", "en", f"He has {EPONYMS[index % len(EPONYMS)]} and is well.", None
        yield "name", "zh", ("主任查房，患者因咳嗽入院", "患者无不适", "医生建议复查", "家属已签字")[index % 4], None


def writings(draw: random.Random) -> Iterator[Case]:
    """Every format of a kind and language in each of its frames."""
    for (kind, language), (formats, frames) in IN_FRAMES.items():
        for written in formats:
            for frame in frames:
                text, value = split(frame.format(fill(draw, written)))
                yield kind, language, text, value


def written_near_misses() -> Iterator[Case]:
    for kind, texts in NEAR_MISSES.items():
        for text in texts:
            yield kind, "near", text, None


def iban_ok(value: str) -> bool:
    return iban_check(value[:2], value[4:]) == value[2:4]


def main() -> None:
    by_kind: dict[str, list[Case]] = {}
    for case in (
        *cases(Maker(20261121)), *writings(random.Random(5)), *near_misses(Maker(7)), *written_near_misses(),
    ):  # fmt: skip
        by_kind.setdefault(case[0], []).append(case)
    for kind, found in by_kind.items():
        lines = [
            json.dumps({"kind": kind, "language": language, "text": text, "value": value}, ensure_ascii=False)
            for _, language, text, value in found
        ]
        (HERE / f"{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
