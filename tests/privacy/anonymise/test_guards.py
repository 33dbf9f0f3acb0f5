"""Conditions of the detectors, each by a sentence that needs it: without the condition its row goes red.

The rows of one function stand together under its name. A near miss stays visible; what a condition lets through is
hidden.
"""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import redact

NO_AGES = [
    ("_is_no_amount .", "Mean survival was 0.93 years."),
    ("_is_no_amount ,", "Seguimiento medio de 2,95 años."),
    ("_is_no_amount $", "She got a $100 year-end bonus."),
    ("_is_no_amount €", "The bank pays a €100 year-end bonus."),
    ("_is_no_amount £", "The bank pays a £100 year-end bonus."),
    ("_is_no_amount /", "A 1/100 year flood took the charts."),
    ("_is_no_amount %", "年龄95%置信区间为40至60岁。"),
    ("is_beside_sex €", "Sales of €91M rose."),
    ("is_beside_sex £", "Sales of £95M rose."),
    ("is_beside_sex /", "Obs 37/99F, well"),
    ("is_beside_sex :", "odds of 1:95M"),
    ("is_beside_sex #", "Locker #95F is free."),
    ("is_beside_sex +", "Sales were up +95M."),
    ("is_beside_sex *", "Values marked *95F were dropped."),
    ("is_beside_sex counted after a space", "WBC: 95 M cells/ml"),
    ("is_beside_sex counted after a slash", "an incidence of 95/M people a year"),
    ("_in_words a digit", "患儿八岁，发热。"),
    ("_in_words ten", "患儿十岁，发热。"),
    ("is_beside_sex -", "size 34-95F fits"),
]

NO_NUMBERS = [
    ("_is_long ,", "p era 0,1234567"),
    ("_is_long %", "a gain of 1500000%"),
    ("_is_grouped .", "Factor loadings .4512 .7789 .3345 were kept."),
    ("_is_grouped -", "Offsets -4512 -7789 -3345 in the scan"),
    ("_is_grouped /", "see path a/4512.7789.3345"),
    ("_is_grouped %", "rates of 4512 5721 3345% in mice"),
    ("_is_address two colons", "Grade::2 reflux"),
    ("_is_address .", "see rev.10.2.1.4 of the form"),
    ("_is_phone €", "El préstamo fue de €612.345.678."),
    ("_is_phone $", "a loan of $612.345.678"),
    ("_is_phone £", "a loan of £612.345.678"),
    ("_is_phone ¥", "a loan of ¥612.345.678"),
    ("_is_phone plan of its country", "a gain of +1.250.000 euros"),
    ("_is_value four digits", "case B12 of the series"),
    ("_is_value no plain number", "the study 2019 results"),
    ("_is_value two digits", "case no. 5 of the series"),
    ("_is_value %", "MRN 95% complete at both sites"),
    ("_is_extension two numbers", "an image of 3 x2048 pixels"),
    ("_is_extension unit", "x55213 mg in all"),
    ("_is_extension %", "x1251% gain"),
    ("_is_number_zh no digit", "病历号：NA"),
    ("_is_number_zh three digits", "病历：12，住院"),
    ("_is_number_zh behind its cue", "检验WBC120正常"),
    ("_is_domain short name", "drug vs.placebo/2 arms"),
    ("_is_host letter first", "take 2@hospital now"),
    ("_is_handle after a letter", "pain 5mg@zyxward now"),
    ("_is_handle after a mark", "give 10%@zyxtime"),
    ("_is_handle short", "seen @BWH today"),
]

NO_PLACES = [
    ("_is_street -", "Under Covid-19 Drug Court met online."),
    ("_is_street .", "version 2.5 Drug Court form"),
    ("_is_street :", "At 10:30 Drug Court met."),
    ("_is_street $", "a $50 Drug Court fee"),
    ("_is_small_street after a time", "at 10:30 hudson st was shut"),
    ("_is_home units in capitals", "moved to 10 MG twice daily"),
    ("_is_town", "The Chief, MD, agreed."),
    ("_has_own_name opening", "Local Assisted Living is full."),
    ("_has_own_name ward", "Inpatient Case Management saw him."),
    ("_is_site known word", "referred to Therapy"),
    ("_is_company ward", "She works for Medicare."),
    ("_is_told no word", "She works for Արմավիր now."),
    *(("_is_employer", f"工作单位：{none}。") for none in
      ("不详", "无业", "退休", "务农", "自由职业", "未提供", "个体", "农民", "保密")),
    ("_is_organisation", "转入再次入院"),
    ("_is_site six capitals", "transferred from SURGEONS today"),
    ("_is_site two capitals", "It was referred to ME today."),
    ("_is_site region", "referred to Maryland today"),
    ("_is_site no capitals", "referred to Group today"),
]  # fmt: skip

NO_DATES = [
    ("_has_day above", "In Jan 45 patients came."),
    ("_has_day below", "In Jan 0 patients came."),
    ("_is_date %", "doses of 10-12-15% glucose"),
    ("_goes_on /", "see path 2024/02/22/7"),
    ("_is_alone plain", "bed 112/2024 is free"),
    ("_is_month_day a above 12", "Agreed on 13/14 items."),
    ("_is_month_day b above 31", "Agreed on 12/40 items."),
    ("_is_month_day a above 31", "Agreed on 40/12 items."),
    ("_is_month_day a below 1", "Agreed on 0/14 items."),
    ("_is_month_day a below 1, small b", "Agreed on 0/5 items."),
    ("_is_month_day b below 1", "Agreed on 14/0 items."),
    ("_is_month_day b below 1, small a", "Agreed on 5/0 items."),
    ("_is_month_day .", "ratio 1.3/14-3/17"),
    ("_is_month_day /", "see path a/3/14-3/17"),
    ("_is_month_day -", "batch B-3/14-3/17"),
    ("_is_month_day scored", "an Apgar of 8/9 at birth"),
    ("_is_month_day wholes", "grip 3/5-4/5 today"),
    ("_is_short_date month", "比例于24-0-5"),
    ("_is_short_date day", "比例于24-5-0"),
    ("_is_short_date goes on", "比例于24-3-5-7"),
    ("_is_part_of_month 娠", "妊娠5月末"),
    ("_is_part_of_month 第", "第5月末复诊"),
    ("_is_part_of_month 个", "两个五月底"),
    ("_is_part_of_month 诊", "5月初诊"),
    ("_is_part_of_month 次", "五月初次就诊"),
    ("_is_part_of_month 步", "6月初步诊断"),
    ("_is_part_of_month 始", "3月初始治疗"),
    ("_is_part_of_month 梢", "5月末梢神经炎"),
]

NO_NAMES = [
    ("_after_form one common word", "Surgeon: Long wait today"),
    ("_after_form colour", "Provider: White walls today"),
    ("_after_role heading", "Patient White MI"),
    ("_after_role first name alone", "nurse White."),
    ("_after_title one letter", "dr x came"),
    ("_after_title eponym", "dr. graves disease"),
    ("_after_title common word", "dr brown came"),
    ("_after_title ms", "ms brown came"),
    ("_named one letter", "my name is Q"),
    ("_part month", "Surgeon: May"),
    ("_part acronym between", "Surgeon: Rose NOTED White"),
    ("_after FORM without its link", "代表高度评价本院工作"),
    ("_after FORM alone", "签名高度一致"),
    ("_after only a form's trust falls", "给于海带"),
    ("_fits LITTLE small word", "让于小海来"),
    ("_fits LITTLE clear surname", "给白海，"),
    ("_is_word clear surname", "患者高大大，"),
    ("_sex_follows no daughter", "患者高兴，女儿陪同"),
    ("_before 男", "去温泉，男友陪同"),
    ("_surname_alone bracket", "风险：高(High Risk)"),
    ("_surname_alone no surname", "今日，新医生到岗"),
    ("_pairs right", "刘洋和陈旧性骨折"),
    ("_after_title starter", "dr. will see you now"),
    ("_after_title starter after mr.", "mr. do not call"),
    ("_after_title no nurse", "seen by the nurse. young adult"),
    ("_part small known word", "Provider: White Arm Young"),
    ("_is_word two characters", "患者苏醒状态"),
    ("_before inside a clause", "神志安静，女，30岁"),
    ("_pairs clear left", "柳树和杨树花粉过敏"),
    ("_pairs clear right", "杨树和柳树花粉过敏"),
]


NO_SEPARATORS = [
    ("_is_address after a digit", "ratio 12:10.0.0.5"),
    ("is_beside_sex after a digit", "odds of 1:95M"),
    ("_WARM", "T: 99 F"),
    ("_PAGE", "12\n\nCourt was full"),
]


@pytest.mark.parametrize(
    "text", [text for _, text in (*NO_SEPARATORS, *NO_AGES, *NO_NUMBERS, *NO_PLACES, *NO_DATES, *NO_NAMES)]
)
def test_a_near_miss_stays(text: str) -> None:
    assert redact(text) == text


AGES = [
    ("is_beside_sex no heat before M", "Pt: 98 M, cough", "Pt: [AGE] M, cough"),
    ("is_beside_sex no space", "98F with cough", "[AGE]F with cough"),
    ("is_beside_sex no heat of a body", "Woman, 92 F, fell", "Woman, [AGE] F, fell"),
]

NUMBERS = [
    ("_is_card 2", "201400000000009", "[CARD]"),
    ("_is_card 3", "378282246310005", "[CARD]"),
    ("_is_nhs", "943 476 5919 on file", "[NATIONAL_ID] on file"),
    ("_is_domain @", "follow @wellcare.com now", "follow [URL].com now"),
    ("_is_phone what it is comes after", "481 7531 (office)", "[PHONE] (office)"),
    ("_is_phone +", "+4930901820 rang", "[PHONE] rang"),
    ("_is_value letters", "case B-1234 was closed", "case [RECORD_NUMBER] was closed"),
    ("_is_value #", "chart # 12", "chart # [RECORD_NUMBER]"),
    ("_is_value id", "Subject ID 12", "Subject ID [RECORD_NUMBER]"),
    ("_is_value no", "chart no 12", "chart no [RECORD_NUMBER]"),
    ("_is_number_zh :", "病历：123，", "病历：[RECORD_NUMBER]，"),
    ("_is_number_zh 是", "病历是123，", "病历是[RECORD_NUMBER]，"),
    ("_is_number_zh 为", "病历为123，", "病历为[RECORD_NUMBER]，"),
    ("_is_domain known top", "see quorl.com/about now", "see [URL] now"),
    ("_is_domain shortener", "see bit.ly/abc now", "see [URL] now"),
    ("_is_domain dot in its name", "see a.quorl.xyz/abc now", "see [URL] now"),
    ("_is_domain digit in its path", "see quorl.xyz/a12 now", "see [URL] now"),
    ("_is_handle no letter", "@jo_9 wrote", "[URL] wrote"),
    ("_is_handle unknown", "@zyxquor wrote", "[URL] wrote"),
]

PLACES = [
    ("_is_street /", "On 3/14 Drug Court met.", "On [DATE] Drug Court met."),
    ("_is_small_street long word", "mail to 12 park avenue, please", "mail to [ADDRESS], please"),
    ("_is_small_street index", "mail to 12 court road, please", "mail to [ADDRESS], please"),
    ("_is_small_street unknown", "mail to 99 hudson st, please", "mail to [ADDRESS], please"),
    ("_is_home capital", "She lives at 45 Park, alone", "She lives at [ADDRESS], alone"),
    ("_is_site shouted", "transferred from CARE today", "transferred from [ORGANISATION] today"),
    ("_is_site unknown, two letters", "transferred from AB today", "transferred from [ORGANISATION] today"),
    ("_is_site unknown, six letters", "transferred from ABCDEF today", "transferred from [ORGANISATION] today"),
    ("_is_company short", "works for APPLE", "works for [ORGANISATION]"),
    ("_is_company unknown", "works for ZYXQUOR", "works for [ORGANISATION]"),
    ("_is_site two words", "referred to Second Wind", "referred to [ORGANISATION]"),
]

DATES = [
    ("_has_day only may and march", "seen jan 5, well", "seen [DATE], well"),
    ("_has_day two numbers", "seen may 5, 2021, well", "seen 2021, well"),
    ("_is_no_verb", "seen on may the fourth", "seen on [DATE]"),
    ("_is_date joined to a letter", "Adm./2024-02-22", "Adm./2024"),
    ("_is_date joined by -", "build B-2024-02-22", "build B-[CODE]"),
    ("_is_date v", "schema v2024-02-22", "schema [CODE]"),
    ("_is_date V", "schema V2024-02-22", "schema [CODE]"),
    ("_is_date year first, month above", "code 2020-13-05", "code [CODE]"),
    ("_is_date year first, month below", "code 2020-00-10", "code [CODE]"),
    ("_is_date year first, day below", "code 2020-10-00", "code [CODE]"),
    ("_is_date year first, day above", "code 2020-10-45", "code [CODE]"),
    ("_is_date four digits", "part 12024-02-22 is on order", "part [CODE] is on order"),
    ("_is_date second above 31", "lot 12/40/2020", "lot [DEVICE]"),
    ("_is_date first above 31", "lot 45/12/2020", "lot [DEVICE]"),
    ("_is_date first below", "lot 0/25/2020", "lot [DEVICE]"),
    ("_is_date second below", "lot 25/0/2020", "lot [DEVICE]"),
    ("_is_date first below, small second", "lot 0/5/2020", "lot [DEVICE]"),
    ("_is_date second below, small first", "lot 5/0/2020", "lot [DEVICE]"),
    ("_goes_on only by a mark", "seen 2024-02-22 7 times", "seen 2024 7 times"),
    ("_goes_on -", "form 2024-02-22-7", "form [CODE]"),
    ("_is_year_month /", "seen 2010/12, well", "seen 2010, well"),
    ("_is_year_month since", "well since 2010-12.", "well since 2010."),
    ("_is_month_day day first", "Agreed on 14/3 then", "Agreed on [DATE] then"),
    ("_is_month_day one alone", "on 3/5 we met", "on [DATE] we met"),
    ("_is_month_day two wholes", "seen 3/5-4/10 at home", "seen [DATE] at home"),
    ("_is_month_day no whole", "in bed 3/14-4/14 then", "in bed [DATE] then"),
    ("_is_month_day more than the whole", "in bed 7/5-8/5 then", "in bed [DATE] then"),
]

NAMES = [
    ("_after_form two words", "Surgeon: Rose White reviewed labs", "Surgeon: [NAME] reviewed labs"),
    ("_after_form no common word", "Surgeon: Smith reviewed labs", "Surgeon: [NAME] reviewed labs"),
    ("_after_name no letter before", "1. Name: Clark Young", "1. Name: [NAME]"),
    ("_after_talk two words", "Doctor: Yes.\nPatient: Rose White here", "Doctor: Yes.\nPatient: [NAME] here"),
    ("_after_talk no common word", "Doctor: Yes.\nPatient: Smith here", "Doctor: Yes.\nPatient: [NAME] here"),
    ("_after_role two words", "Patient Smith White has pain", "Patient [NAME] has pain"),
    ("_after_role nothing after", "the patient Rose.", "the patient [NAME]."),
    ("_after_title dr.", "dr. brown came", "[NAME] came"),
    ("_after_title ms.", "ms. brown came", "[NAME] came"),
    ("_after_title dotted, no typing error", "dr. zyxed came", "[NAME] came"),
    ("_after_title two words", "dr patel khan came", "[NAME] came"),
    ("_after_title comma", "dr patel, khan", "[NAME], khan"),
    ("_after_title common word after", "mr smithers brown", "[NAME] brown"),
    ("_named no common word", "my name is rose white and", "my name is [NAME] white and"),
    ("_named capital", "my name is Rose White and", "my name is [NAME] and"),
    ("_named first word alone", "my name is zyquor young", "my name is [NAME] young"),
    ("_length starter and first name", "Surgeon: Will Young", "Surgeon: [NAME]"),
    ("_length ;", "Name: Rose; White", "Name: [NAME]; White"),
    ("_length bare comma", "Surgeon: White,Rose", "Surgeon: [NAME]"),
    ("_length second comma", "Surgeon: White, Rose, Young", "Surgeon: [NAME], Young"),
    ("_joins initial or jr.", "Surgeon: Rose White. Young adult", "Surgeon: [NAME]. Young adult"),
    ("_joins jr.", "Surgeon: Rose White Jr. Young", "Surgeon: [NAME]"),
    ("_part unknown field", "Patient: Rose White Sex F", "Patient: [NAME] Sex F"),
    ("_part title", "Patient: Rose White Dr. Smith", "Patient: [NAME] [NAME]"),
    ("_part long unknown capitals", "Surgeon: XYZQ", "Surgeon: [NAME]"),
    ("_spellings listed beginning", "患者王国庆咳嗽，曾游联合王国", "患者[NAME]咳嗽，曾游联合王国"),
    ("_after 宫 only after 子", "患者宫晓明来院", "患者[NAME]来院"),
    *((f"_after FORM {lead[-1]}", f"{lead}高兴，", f"{lead}[NAME]，")
      for lead in ("姓名 ", "姓名：", "姓名是", "姓名为", "我叫", "申请人系")),
    ("_given most", "姓名：王小明身高175cm", "姓名：[NAME]身高175cm"),
    ("_fits FORM usual", "姓名：高兴咳嗽", "姓名：[NAME]咳嗽"),
    ("_fits FORM closed", "姓名：王大便", "姓名：[NAME]"),
    ("_fits double surname", "患者司马懿咳嗽", "患者[NAME]咳嗽"),
    ("_fits 男 after a word", "患者高兴，男，30岁", "患者[NAME]，男，30岁"),
    ("_fits 女 after a word", "患者高兴，女，30岁", "患者[NAME]，女，30岁"),
    ("_fits small surname closed", "患者于海，", "患者[NAME]，"),
    ("_before age", "王小明6岁儿童，发热", "[NAME]6岁儿童，发热"),
    ("_before word at the beginning", "高兴，女，30岁", "[NAME]，女，30岁"),
    ("_before small word before the name", "向李明医生汇报", "向[NAME]医生汇报"),
    ("_before small surname", "于建国医生查房", "[NAME]医生查房"),
    ("_before longest small surname", "成连山医生查房", "[NAME]医生查房"),
    ("_surname_alone double", "欧阳医生查房", "[NAME]医生查房"),
    ("_surname_alone at the beginning", "白医生查房", "[NAME]医生查房"),
    ("_surname_alone after a mark", "查房：白医生", "查房：[NAME]医生"),
    ("_surname_alone clear", "昨日请王医生会诊", "昨日请[NAME]医生会诊"),
    ("_neighbours left", "石建国、王秀英医生到场", "[NAME]、[NAME]医生到场"),
    ("_is_han above", "患者王伟😊今天出院", "患者[NAME]😊今天出院"),
    ("_named adjacent", "my name is shaniqua. tizanidne hurts", "my name is [NAME]. tizanidne hurts"),
    ("_named one case", "my name is shaniqua Zyquor made me ill", "my name is [NAME] Zyquor made me ill"),
    ("_named starter", "my name is Shaniqua Will you help", "my name is [NAME] Will you help"),
    ("_named listed", "my name is Shaniqua Diabetes runs here", "my name is [NAME] Diabetes runs here"),
    ("_length site", "Surgeon: Young Church", "Surgeon: [ORGANISATION]"),
    ("_part particles", "Surgeon: White de la Rose", "Surgeon: [NAME]"),
    ("_part field", "Patient: WHITE, ROSE ID WEST 4", "Patient: [NAME] ID WEST 4"),
    ("_part label", "Client: Rose White Price: 40", "Client: [NAME] Price: 40"),
    ("_span initial without its dot", "Surgeon: White, Rose J came", "Surgeon: [NAME] came"),
    ("_ends_field mark", "PCP: Young,back today", "PCP: [NAME],back today"),
    ("_ends_field verb", "Surgeon: Young called back", "Surgeon: [NAME] called back"),
    ("_ends_field bracket", "Surgeon: Young (fellow) came", "Surgeon: [NAME] (fellow) came"),
    ("_fits FORM one character", "姓名：高大咳嗽3天", "姓名：[NAME]咳嗽3天"),
    ("_fits all seldom", "患者苏州人，", "患者[LOCATION]人，"),
]  # fmt: skip

SEPARATORS: list[tuple[str, str, str]] = [
    ("_is_grouped after a comma", "已核对，6225 8848 3378 8767。", "已核对，[CODE]。"),
    ("_is_address after a label", "IP:192.168.0.7", "IP:[IP]"),
    ("_is_address after a word", "server:10.0.0.5 is down", "server:[IP] is down"),
    ("_is_host at the end of a sentence", "mail jane@localhost.", "mail [EMAIL]."),
    ("is_beside_sex after a label", "Age:95F", "Age:[AGE]F"),
    ("_WARM only as a word", "Client: 92 F, fell", "Client: [AGE] F, fell"),
    ("_is_no_amount before another label", "年龄：95/性别：女", "年龄：[AGE]/性别：女"),
    ("_is_street over an empty line", "He is at 12 Oak Court\n\nRoom 4", "He is at [ADDRESS]"),
    ("_is_titled two first names", "works for Rose White", "works for [ORGANISATION]"),
    ("_after_role dear", "Dear Grace, your result", "Dear [NAME], your result"),
]  # fmt: skip


HIDDEN = [row[1:] for row in (*AGES, *NUMBERS, *PLACES, *DATES, *NAMES, *SEPARATORS)]


@pytest.mark.parametrize(("text", "shown"), HIDDEN)
def test_what_a_condition_is_there_for_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
