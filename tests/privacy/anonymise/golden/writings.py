"""How identifiers are written: for each kind and language its formats, and the frames that they stand in.

Every format in every frame is one writing. In a format `#` is any digit but 0, `@` any capital letter (itself in an
e-mail address), `~` any small one; `{name}` draws from a list below; what stands in angle brackets is the value. Near
misses hold nothing of their kind.
"""

from __future__ import annotations

import random
import re

LISTS: dict[str, tuple[str, ...]] = {
    "street": ("Oak", "Maple", "Birch", "Lincoln", "Cedar", "Willow", "Juniper"),
    "first": ("Mary", "Robert", "Linda", "Kenneth", "Deborah", "Gregory"),
    "last": ("Hernandez", "Kowalski", "Nguyen", "Abernathy", "Castillo", "Fitzgerald"),
    "surname": tuple("王李张刘陈杨赵周吴徐孙朱郭何林罗郑梁谢宋"),
    "given": ("伟", "芳", "晓明", "丽娟", "建国", "雪梅", "志强", "思远", "桂兰", "秀英", "海涛", "佳怡"),
    "given2": ("晓明", "丽娟", "建国", "雪梅", "志强", "思远", "桂兰", "秀英", "海涛", "佳怡"),
    "town_zh": ("杭州市", "成都市", "武汉市", "南京市", "西安市", "长沙市"),
    "road_zh": ("学院路", "漕溪北路", "体育西路", "建国路", "人民东路"),
    "village_zh": ("王店乡李庄村", "周党镇黄湖村", "白沙镇石桥村"),
    "hospital_zh": ("华山医院", "同济医院", "湘雅医院", "市人民医院", "省中医院"),
    "firm_zh": ("富士康", "华为技术", "美的集团", "宏远建材"),
    "age": tuple(map(str, range(90, 108))),
    "age_zh": ("九十一", "九十二", "九十五", "九十八"),
    "town": ("Denver", "Boston", "Chicago", "Houston", "Seattle", "Phoenix"),
    "town_es": ("Sevilla", "Zaragoza", "Bilbao", "Murcia"),
    "state": ("Colorado", "Texas", "Ohio", "Oregon", "Nevada"),
    "province": ("浙江省", "四川省", "湖北省", "陕西省", "云南省"),
    "job": ("plumber", "welder", "teacher", "carpenter", "electrician"),
    "job_es": ("fontanero", "albañil", "maestra", "camarero"),
    "job_zh": ("会计", "教师", "司机", "木工"),
    "user": ("grace_oka", "jd_77", "wang88", "k.ito2", "rosa_m"),
}
EN_FORM = ("{} on file.", "The form says {}, as before.", "({})", "{}; please check")
EN_TALK = ("She gave {} today.", "We noted {} in the letter", "see {}\nnext line", "it is {} now")
ZH_FORM = ("{}。", "患者登记{}，无不适", "今核对{}无误", "（{}）")
ES_TALK = ("El paciente aporta {} en la consulta de la tarde.", "Se anota {} para el informe y la historia.",
           "La familia dio ({}) a la enfermera de la planta.",
           "consta {}; la hija lo confirma en el ingreso")  # fmt: skip
Formats = tuple[str, ...]

WRITINGS: dict[tuple[str, str], tuple[Formats, Formats]] = {
    ("card", "zh-grouped"): (
        ("卡号<4### #### #### ####>", "卡号：<6225 8848 #### ####>", "银行卡号为<6222 #### #### #### ###>",
        "信用卡<5### #### #### ####>",
         "卡号是<6228-####-####-####>", "尾号<####>", "末四位是<####>"),
        ZH_FORM,
    ),
    ("card", "en-ends"): (
        ("card ending in <####>", "Visa ends in <####>", "debit card, last four <####>",
        "credit card last 4 digits: <####>",
         "card no. <4### #### #### ####>"),
        EN_FORM,
    ),
    ("account", "en"): (
        ("account number <#######>", "acct <######>", "a/c no. <########>", "account # <#####>", "loan <#######>",
         "account ending in <####>", "customer id <######>", "SWIFT CHASUS33XXX routing <#########>"),
        EN_FORM,
    ),
    ("account", "zh"): (
        ("账号<6225 8848 #### ####>", "账户<##########>", "银行账户 <6225 8848 #### ####>",
        "帐号：<#### #### #### #### ##>",
         "合同号<HT#######>", "订单号为<########>"),
        ZH_FORM,
    ),
    ("phone", "en-writings"): (
        ("phone <(61#) 55#-####>", "tel <61#-55#-####>", "cell: <61#.55#.####>", "call <+1 61# 55# ####>",
        "<61# 55# ####>",
         "pager <4-####>", "ext. <####>", "mobile <+44 7911 12####>"),
        EN_FORM,
    ),
    ("phone", "zh-grouped"): (
        ("电话是<6233 ####>", "手机<138 #### ####>", "联系电话：<139-####-####>", "电话<010-8233####>",
        "致电<021 6233 ####>",
         "手机号码为<+86 150 #### ####>", "传真 <0571-8801####>"),
        ZH_FORM,
    ),
    ("email", "en-writings"): (
        ("<~~~~.~~~#@mail.example.org>", "<~~~~~@clinic.example.co.uk>", "<~~~~(at)mail.example>",
        "<~~~~~ at mail dot org>",
         "<~~~~~@localhost>", "<~~~+tag@x-#.example.com>"),
        EN_TALK,
    ),
    ("email", "zh-writings"): (
        ("邮箱<~~~~#@医院.cn>", "邮箱：<~~~~~@163.com>", "电子邮件<~~~.~~~@mail.example.cn>", "Email <####@qq.com>",
        "邮箱为<~~~_~~@126.com>"),
        ZH_FORM,
    ),
    ("url", "en-writings"): (
        ("<bit.ly/3~~~>", "<https://x#.example.com/p/####>", "<www.~~~~~.org>", "<intranet.hospital.local/pt/##>",
        "<clinic~.ai>",
         "handle <@{user}>", "user <{user}>", "skype: <live:jd_##>"),
        EN_TALK,
    ),
    ("url", "zh-writings"): (
        ("微信号<wx~~~_##>", "微信：<~~~~~##>", "QQ <########>", "QQ号码<#########>", "网址<www.~~~~~.cn>"),
        ZH_FORM,
    ),
    ("ip", "en-writings"): (
        ("<10.#.#.1##>", "<192.168.001.01#>", "<2001:db8::8a2e:370:73##>", "IP <172.16.#.#>", "host <10.0.#.#/24>"),
        EN_TALK,
    ),
    ("national_id", "zh-grouped"): (
        ("身份证<110101 1990 0307 ####>", "身份证号<3101041985030#####>", "身份证号码为 <440305 19780912 ###X>",
        "证件号：<510107196512#####>",
         "身份证 <11010119900307###X>"),
        ZH_FORM,
    ),
    ("national_id", "en-writings"): (
        ("SSN <2##-4#-####>", "ssn <2## 4# ####>", "SSN ends <####>", "NINO <AB 12 34 5# C>", "NINO <AB1234##D>",
        "passport <#########>"),
        EN_FORM,
    ),
    ("record_number", "en-writings"): (
        ("MRN <#######>", "mrn: <####>", "med rec <######>", "Hosp # <#####>", "chart # <#####>",
        "record no. <A######>", "accession <S##-#####>",
         "patient id <######>"),
        EN_FORM,
    ),
    ("record_number", "zh-writings"): (
        ("住院号<######>", "门诊号: <MZ####/0012>", "病历号为<H-######>", "床号<12>", "病案号：<########>",
        "检查号 <CT######>"),
        ZH_FORM,
    ),
    ("record_number", "es-writings"): (
        ("NHC: <######>", "nº de historia <######>", "historia clínica <######>", "historia clínica nº <######>",
        "NHC <#######>"),
        ES_TALK,
    ),
    ("plan_number", "en"): (
        ("MBI <1EG4-TE5-MK##>", "<1EG4TE5MK##>", "policy number <######>", "member id <@########>",
        "insurance policy <#######>", "Medicare <#########@>"),
        EN_FORM,
    ),
    ("plan_number", "zh"): (
        ("医保卡号<##########>", "社保号：<#########>", "保单号<PD########>", "参保号为<########>",
        "医保号 <########>"),
        ZH_FORM,
    ),
    ("plan_number", "es"): (
        ("afiliación <28/########>", "póliza <#######>", "nº de afiliación <########>", "póliza nº <######>",
        "póliza número <######>"),
        ES_TALK,
    ),
    ("licence", "en"): (
        ("driver's license <@#######>", "NPI <##########>", "DEA <@@#######>", "license number <########>",
        "cert no. <######>"),
        EN_FORM,
    ),
    ("licence", "zh"): (
        ("执业证号<##########>", "驾驶证号：<############>", "许可证<########>", "资格证书号<#######>",
        "驾照号为<##########>"),
        ZH_FORM,
    ),
    ("device", "en"): (
        ("serial number <SN######>", "S/N <########>", "device id <######>", "lot <A#####>", "<00:1B:44:11:3A:B#>",
        "IMEI <35############>"),
        EN_FORM,
    ),
    ("device", "zh"): (
        ("序列号<SN######>", "设备号：<########>", "批号<######>", "器械号为<#######>", "产品号 <AX#####>"),
        ZH_FORM,
    ),
    ("plate", "en"): (
        ("plate <ABC-####>", "license plate <7ABC###>", "drove a car, <XYZ ###>", "vehicle registration <AB12 3##>",
        "number plate: <KLM-####>", "<7KLM###>"),
        EN_FORM,
    ),
    ("plate", "es"): (
        ("matrícula <#### BCD>", "matrícula: <####-FGH>", "matrícula <####KLM>", "matrícula es <#### DFG>",
        "la matrícula <#### RTV>"),
        ES_TALK,
    ),
    ("plate", "zh-writings"): (
        ("车牌<京A#####>", "车牌号：<沪B·#####>", "驾驶<粤C #####>", "车牌为<浙D#####>", "<川A#####D>"),
        ZH_FORM,
    ),
    ("name", "zh-writings"): (
        ("<{surname}{given}>，女，65岁", "<{surname}{given2}> 男 58岁", "其子<{surname}{given2}>",
        "其母<{surname}{given2}>已故", "由<{surname}{given2}>陪同",
         "与<{surname}{given2}>沟通", "转账给<{surname}{given2}>", "法人代表<{surname}{given2}>签字",
         "联系人：<{surname}{given}>", "家属<{surname}{given2}>",
         "WANG Xiaoming（<{surname}{given2}>）", "<{surname}{given}>医生", "之妻<{surname}{given2}>", "<老李>说",
         "<小王>也来了", "<阿依古丽·买买提>因腹痛",
         "经办人：<{surname}{given2}>", "户主<{surname}{given2}>"),
        ("{}。", "昨日{}，已处理", "（{}）"),
    ),
    ("address", "zh-writings"): (
        ("住<{town_zh}{road_zh}##号2栋3单元501>", "<{town_zh}{road_zh}88弄6号201>", "家住<{village_zh}>",
        "<{village_zh}5组>", "地址：<{town_zh}{road_zh}1#号>",
         "<5村3组>", "现住<{town_zh}{road_zh}1##号>"),
        ZH_FORM[:3],
    ),
    ("address", "en-writings"): (
        ("<1## {street} Street>", "<2### {street} Ave, Apt #>", "<#4 N {street} Blvd>", "<P.O. Box ###>",
        "<4# {street} Road, {town}>", "<9## {street} Ln, Suite 1##>"),
        EN_TALK,
    ),
    ("organisation", "zh"): (
        ("转<{hospital_zh}>", "就诊于<{hospital_zh}>", "<301医院>", "曾在<北医三院>", "<市二院>", "转<华西>治疗",
        "工作单位：<{firm_zh}>", "就职于<{firm_zh}>"),
        ("{}。", "{}，后复查", "今日{}。"),
    ),
    ("organisation", "en"): (
        ("at <{last} Memorial Hospital>", "<St. {first} Medical Center>", "<{last} Regional Hospital>",
        "<Bank of {town}>", "<{last} & Sons Clinic>"),
        EN_TALK,
    ),
    ("location", "en"): (("in <{town}>", "from <{town}>", "near <{town}>", "<{town}, TX>",
    "moved to <{town}>"), EN_TALK),
    ("location", "zh"): (("来自<{town_zh}>", "<{town_zh}>人", "在<{town_zh}>打工", "去过<{town_zh}>",
    "籍贯<{town_zh}>"), ZH_FORM),
    ("location", "es"): (
        ("vive en <{town_es}>", "natural de <{town_es}>", "procedente de <{town_es}>", "nacido en <{town_es}>",
        "vecina de <{town_es}>"), ES_TALK,
    ),
    ("region", "en"): (("in <{state}>", "from <{state}>", "across <{state}>", "the {town} clinic in <{state}>",
    "born in <{state}>"), EN_TALK),
    ("region", "zh"): (("来自<{province}>", "<{province}>人", "在<{province}>打工", "去过<{province}>",
    "籍贯<{province}>"), ZH_FORM),
    ("zip", "en"): (("zip <602##>", "zip code: <602##>", "<602##-12##>", "IL <602##>",
    "postal code <SW1A 2AA>"), EN_FORM),
    ("zip", "zh"): (("邮编<3100##>", "邮政编码：<6100##>", "邮编为<2000##>", "邮编 <1000##>",
    "邮政编码<5100##>"), ZH_FORM),
    ("age", "en"): (
        ("<{age}> years old", "<{age}>-year-old", "aged <{age}>", "<{age}> y/o", "age: <{age}>", "<{age}> yo",
        "age of <{age}>"), EN_FORM,
    ),
    ("age", "zh"): (("<{age}>岁", "<{age_zh}>岁", "年龄：<{age}>", "现年<{age}>岁", "虚岁<{age_zh}>"), ZH_FORM),
    ("age", "es"): (("<{age}> años", "de <{age} años> de edad", "edad: <{age}>", "varón de <{age} años>",
    "mujer de <{age} años>"), ES_TALK),
    ("sex", "en"): (("<female>", "sex: <F>", "a <man>", "gender: <male>", "a young <woman>"), EN_FORM),
    ("sex", "zh"): (("性别：<男>", "性别<女>", "王伟，<男>，", "张桂兰，<女>，", "性别: <女>"), ("{}", "患者{}",
    "登记{}", "入院{}")),
    ("sex", "es"): (("<varón>", "<mujer>", "sexo: <M>", "<hombre>", "una <niña>"), ES_TALK),
    ("profession", "en"): (("works as a <{job}>", "occupation: <{job}>", "employed as a <{job}>",
    "working as a <{job}>", "profession: <{job}>"), EN_FORM),
    ("profession", "zh"): (("职业：<{job_zh}>", "职业<{job_zh}>", "职业: <{job_zh}>", "其职业：<{job_zh}>",
    "原职业：<{job_zh}>"), ZH_FORM),
    ("profession", "es"): (
        ("de profesión <{job_es}>", "trabaja como <{job_es}>", "trabaja de <{job_es}>", "profesión: <{job_es}>",
        "ocupación: <{job_es}>"), ES_TALK,
    ),
    ("code", "en"): (
        ("<#######>", "<6225 8848 3378 8767>", "CVV <###>", "Visa, exp <09/2#>", "PIN <####>", "<AB######>",
        "ref <#######-@@>"), EN_FORM,
    ),
    ("code", "zh"): (("<########>", "<6225 8848 3378 8767>", "<AB######>", "<#######>", "<##########>"), ZH_FORM),
    ("other", "en"): (("met <Zorblatt>", "the <Quixley> visit", "on <Monday>", "gave <Vraxil>",
    "the <Jelmora> plan"), EN_TALK),
}  # fmt: skip

NEAR_MISSES: dict[str, Formats] = {
    "phone": ("BP 120/80 and HR 72", "platelets 250000", "from 1200 to 1500 kcal", "2 x1500 mg",
    "x1000 magnification", "doses 10-20-30 mg", "电话3次", "手机2部"),
    "email": ("take @bedtime", "pain@night", "10 mg @ noon", "call at 5 dot", "@HS", "rated 4@rest",
    "see (at) the door", "邮箱未留"),
    "url": ("b.i.d./t.i.d.", "e.g./i.e.", "5 mg.kg/day", "pain.he/she went", "p.o./i.v.", "q.d/p.r.n", "user 2 of 3",
    "take @bedtime", "QQ群", "微信支付"),
    "address": ("T12 to L4", "2 drops a day", "5 drives a week", "12 way split", "住院3天", "第3组淋巴结", "2组化疗",
    "5号染色体"),
    "plate": ("MCF-1234 cells", "BMS-986 trial", "ICD-100 codes", "HLA-B27", "TNF-100 pg", "5HT receptors",
    "the ABC-1234 assay", "血压A级"),
    "record_number": ("visit 2", "case 12", "sample of 30 %", "unit dose", "chart review", "检查3次", "门诊3次",
    "检查：3.5cm", "处方2次"),
    "account": ("loan of $5000", "account closed", "balance 300.00", "a reference range", "贷款50000元",
    "交易30000元", "客户2023年", "账户余额3000元"),
    "plan_number": ("plan B", "group of 12", "claim denied", "insurance paid 200 dollars", "保险2000万", "保险3次",
    "policy of rest", "member of staff"),
    "licence": ("dl 50 ml", "permit 2 visits", "licensed nurse", "certificate of health", "许可证齐全", "驾照已换",
    "dea agents", "a permit"),
    "device": ("pump 2 times", "model of care", "lot of pain", "device works", "批准文号", "产品良好", "设备3台",
    "pacemaker in place"),
    "card": ("the card game 21", "cardiac index 2.5", "years 2019 2020 2021 2022", "at 0800 1200 1600 2000",
    "visit ended 2019", "卡托普利25mg", "一张卡", "card ended up lost"),
    "national_id": ("social for 30 years", "tax 20 %", "id test", "sin 30", "passport ready", "证件齐全",
    "passport to health", "dni no aportado"),
    "ip": ("v1.2.3", "10.5.3", "1:2:3", "ratio 1:1", "at 10:30:15", "4.5.6 mg", "section 1.1.1", "12:30"),
    "name": ("患者高热三天，体温示高热", "患者黄疸加重", "患者全身乏力", "患者明显好转", "患者严重贫血",
    "妻子高血压病史", "母亲白血病史", "患者万古霉素治疗",
             "管床医生告知", "患者于今年入院", "由于医生繁忙", "其子宫大小正常", "大小方便", "给高流量吸氧"),
    "organisation": ("当地医院就诊", "三级医院", "外院检查", "于我院住院", "工作单位：无", "the hospital", "a bank",
    "her clinic", "this agency"),
    "location": ("in pain", "from bed", "at rest", "near normal", "在家", "到院", "en casa", "in general"),
    "region": ("in a normal state", "left region", "region of interest", "lumbar region", "全省", "本省",
    "in the area", "across groups"),
    "zip": ("zip lock", "12345 cells", "code blue", "post op day 2", "邮件已发", "zip line", "postal worker",
    "60211 units"),
    "age": ("BP 94/60", "HR 96", "O2 sat 98%", "95 mg", "97.5 F", "92 beats", "血压95", "心率98次", "98 points"),
    "sex": ("maleate", "femoral", "mania", "manual", "humane", "lactate", "性质", "sexto día"),
    "profession": ("works well", "job done", "works when asked", "occupational therapy", "working diagnosis",
    "职责明确", "un proceso", "trabajo"),
    "code": ("platelets 250000", "WBC 12.3", "0.123456789 mol", "1,234,567 people", "2019-2021", "FEV1 65%",
    "at 0800 1200 1600 2000", "1200 1500 2000 kcal", "pin 1600 mm fixation"),
    "other": ("the patient", "a good day", "she is well", "no pain", "with food", "at home", "per day", "in bed"),
    "date": ("4/10 pain", "5/5 strength", "20/20 vision", "2/6 murmur", "1/2 tab", "version 1.2.3", "10-20 mg",
    "3-4 次"),
    "iban": ("ES la vida", "DE 12 mg", "GB 20 ml", "FR 18 per min", "NL 30 %", "it 12 34", "AB12 CD", "IBAN unknown"),
}  # fmt: skip

_MARK = re.compile(r"<(.*)>", re.DOTALL)


def fill(draw: random.Random, template: str) -> str:
    """The template with its marks drawn; the value stays in its angle brackets."""
    listed = re.sub(r"\{(\w+)\}", lambda name: draw.choice(LISTS[name.group(1)]), template)
    marks = {"#": "123456789", "@": "ABCDEFGHJKMN", "~": "abcdefghkmnp"}
    literal = "@" in listed and re.search(r"[~#\w)]@|<@", listed) is not None
    return "".join(
        draw.choice(marks[mark]) if mark in marks and not (mark == "@" and literal) else mark for mark in listed
    )


def split(written: str) -> tuple[str, str]:
    """The text without the brackets, and the value that was in them."""
    found = _MARK.search(written)
    if found is None:
        raise ValueError(written)
    return written[: found.start()] + found.group(1) + written[found.end() :], found.group(1)
