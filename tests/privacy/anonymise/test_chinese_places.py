"""Grouped numbers, addresses and hospitals in Chinese running text, each with near misses."""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import hidden, redact


@pytest.mark.parametrize(
    ("text", "found", "kind"),
    [
        ("卡号9558 8039 8259 7919 071，已核对", "9558 8039 8259 7919 071", "card"),
        ("9558 8039 8259 7919 071", "9558 8039 8259 7919 071", "card"),
        ("卡号6225 8848 3378 8767", "6225 8848 3378 8767", "card"),
        ("6225 8848 3378 8767", "6225 8848 3378 8767", "code"),
        ("6225.8848.3378.8767", "6225.8848.3378.8767", "code"),
        ("账号6225 8848 3378 8767", "6225 8848 3378 8767", "account"),
        ("银行账户 6225 8848 3378 8767 已冻结", "6225 8848 3378 8767", "account"),
        ("尾号6789", "6789", "card"),
    ],
)
@pytest.mark.parametrize("profile", ["hipaa-safe-harbor", "pci", "pipl"])
def test_grouped_cards_and_accounts_are_hidden_whole(text: str, found: str, kind: str, profile: str) -> None:
    assert hidden(text, profile) == [(found, kind)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("电话是6233 4455", ["6233 4455"]),
        ("手机138 0013 8000，已核对", ["138 0013 8000"]),
        ("身份证110101 1990 0307 447X", ["110101 1990 0307 447X"]),
        ("110101 1990 0307 447X", ["110101 1990 0307 447X"]),
        ("门诊号: MZ2023/0012", ["MZ2023/0012"]),
        ("住院号123456床号12", ["123456", "12"]),
        ("微信：wangxm_88，微信号sunshine", ["wangxm_88", "sunshine"]),
        ("地址：朝阳区建国路8号2栋3单元501", ["朝阳区建国路8号2栋3单元501"]),
        ("徐汇区漕宝路88弄6号201", ["徐汇区漕宝路88弄6号201"]),
        ("家住王店乡李庄村，5村3组", ["王店乡李庄村", "5村3组"]),
        ("转华西治疗，曾就诊于北医三院", ["华西", "北医三院"]),
        ("301医院，市二院，工作单位：富士康", ["301医院", "市二院", "富士康"]),
    ],
)
def test_grouped_numbers_and_places_are_hidden_whole(text: str, found: list[str]) -> None:
    assert [value for value, _ in hidden(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "贷款50000元，交易30000元，保险2000万", "检查：3.5cm，门诊3次，卡托普利25mg",
        "电话3次，手机2部，QQ群，微信支付", "处方2次，账户余额3000元",
        "每日 0800 1200 1600 2000 给药", "2019 2020 2021 2022 年均复查", "1200 1500 2000 kcal",
        "当地医院就诊，外院检查，于我院住院",
        "三级医院，某医院，上级医院", "第3组淋巴结，2组化疗，住院3天，住址不详",
        "住院部8楼，5号染色体，3号病房，第3层", "工作单位：无", "转入急诊入院",
    ],
)  # fmt: skip
def test_amounts_counts_and_any_hospital_stay(text: str) -> None:
    assert redact(text) == text
