"""Names in Chinese text by what stands beside them; words of the ward that begin like a name stay."""

from __future__ import annotations

import pytest

from privacy.anonymise.lexicon import COMMON_WORDS_ZH
from tests.privacy.anonymise.tools import hidden, redact


def names(text: str) -> list[str]:
    return [value for value, kind in hidden(text) if kind == "name"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("张桂兰，女，65岁。", ["张桂兰"]),
        ("王建国 男 58岁", ["王建国"]),
        ("张丽58岁，农民", ["张丽"]),
        ("其子王建军代诉，其女陈晓燕陪同。", ["王建军", "陈晓燕"]),
        ("其妻张丽诉，其母李桂英已故。", ["张丽", "李桂英"]),
        ("患者系王明之妻林晓来院。", ["王明", "林晓"]),
        ("转账给孙丽华五千元", ["孙丽华"]),
        ("法人代表马化云签字", ["马化云"]),
        ("刘洋和赵敏来院", ["刘洋", "赵敏"]),
        ("李建国医生、王秀英、陈志强均已签字", ["李建国", "王秀英", "陈志强"]),
        ("WANG Xiaoming（王晓明）复诊", ["WANG Xiaoming", "王晓明"]),
        ("王晓明（WANG Xiaoming）复诊", ["王晓明", "WANG Xiaoming"]),
        ("老李说不舒服，小王也来了。由小张陪同", ["老李", "小王", "小张"]),
        ("小张、小李、小王都在", ["小张", "小李", "小王"]),
        ("老王，老李，老张来了", ["老王", "老李", "老张"]),
        ("小王,小李说", ["小王", "小李"]),
        ("小王去，老李陪，小赵办", ["小王", "老李", "小赵"]),
        ("由小张给老李送药", ["小张", "老李"]),
        ("阿依古丽·买买提因腹痛入院", ["阿依古丽·买买提"]),
        ("欧阳明月女士来电", ["欧阳明月"]),
        ("请张伟医生会诊，王医生已看", ["张伟", "王"]),
        ("患者王国庆因头痛入院", ["王国庆"]),
        ("患者于建国来院", ["于建国"]),
        ("姓名：高峰 性别：男", ["高峰"]),
        ("白雪，女，30岁", ["白雪"]),
        ("患者陈玉旧，来院", ["陈玉旧"]),
    ],
)
def test_names_by_what_stands_beside_them(text: str, found: list[str]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "患者高热三天，体温示高热", "患者黄疸加重，考虑黄疸", "患者全身乏力", "患者明显好转", "患者严重贫血",
        "妻子高血压病史，母亲白血病史", "患者万古霉素治疗", "管床医生告知，主管医生签字", "患者于今年入院",
        "患者于凌晨入院",
        "其子宫大小正常，其母高血压", "患者和医生沟通，由于医生繁忙", "由常规改为静脉，给高流量吸氧，向高年资医生汇报",
        "患者安静入睡。患者高兴地离开。", "老高了，大小方便，小时候", "小程序，小陈皮，小段肠管",
        "肿瘤直径变小，较前缩小李",
        "患者，女，神志清楚，病情平稳，女儿陪同",
        "给周围患者，让马上复查，给金属支架", "下肢水肿，男性，黄疸,女",
        "患者周身不适，患者陈旧性骨折，患者任何时候", "方法和程序，高温和干燥",
        "无黄疸，女儿体健", "去温泉，女儿陪同", "高中老师", "患者于林间散步", "经向家属告知，应向上级汇报",
    ],
)  # fmt: skip
def test_words_that_begin_like_a_name_stay(text: str) -> None:
    assert names(text) == []


def test_a_name_found_once_is_hidden_in_the_whole_text() -> None:
    assert redact("患者王芳咳嗽3天。后王芳好转。") == "患者[NAME]咳嗽3天。后[NAME]好转。"
    # Nothing shows where this one ends, so its beginning is looked for as well.
    assert names("患者张丽明咳嗽。张丽来电") == ["张丽明", "张丽"]
    assert names("张丽明，女。张丽来电") == ["张丽明"]


def test_what_joins_to_a_name_is_read_from_name_to_name() -> None:
    assert names("家属：王秀英、陈志强、林思远到场") == ["王秀英", "陈志强", "林思远"]
    assert names("家属：王秀英、咳嗽、陈志强到场") == ["王秀英"]


def test_the_list_holds_no_double_surname_and_only_han() -> None:
    assert not COMMON_WORDS_ZH & {"欧阳", "司马", "上官", "诸葛"}
    assert all("\u4e00" <= mark <= "\u9fff" for word in COMMON_WORDS_ZH for mark in word)


def test_a_text_of_nothing_but_surnames_is_read_in_linear_time() -> None:
    assert isinstance(redact("王李张刘陈和" * 3000 + "、王伟" * 3000), str)
