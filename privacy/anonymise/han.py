"""Chinese characters: what one is, the surnames of two characters, and the numerals."""

from __future__ import annotations

import re

HAN = re.compile(r"[\u3400-\u9fff]")
HAN_NAME = re.compile(r"[\u3400-\u9fff]{2,4}")
DOUBLE_SURNAMES = frozenset((
    "欧阳", "司马", "上官", "诸葛", "东方", "皇甫", "尉迟", "公孙", "慕容",
    "令狐", "司徒", "夏侯", "长孙", "宇文", "轩辕", "端木", "独孤", "南宫",
))  # fmt: skip
DIGITS = "〇一二三四五六七八九"
_VALUES = {mark: value for value, mark in enumerate(DIGITS)} | {"零": 0, "两": 2}
NUMERALS = frozenset((*_VALUES, "十", "百"))


def han_number(value: str) -> int:
    """The number below 1,000, or the digits one by one, that Chinese numerals write; other characters are noughts."""
    total = digit = 0
    for mark in value:
        if mark in "十百":
            total, digit = total + max(digit, 1) * (10 if mark == "十" else 100), 0
        else:
            digit = 10 * digit + _VALUES.get(mark, 0)
    return total + digit
