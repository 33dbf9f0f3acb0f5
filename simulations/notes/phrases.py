"""What the notes say: sentences by department, by pair of departments, and such as any ward writes.

Written for this project; no sentence is from a real record. Departments share most of their words on purpose: a chest
that hurts is cardiology's and psychiatry's, a back that hurts orthopaedics' and neurology's. `OWN` tells a department,
`SHARED` narrows it down to two, `GENERAL` says nothing. In braces: `{side}`, `{span}`, `{few}` are filled at random.
"""

from __future__ import annotations

Bank = dict[str, tuple[str, ...]]
PairBank = dict[tuple[str, str], tuple[str, ...]]

DEPARTMENTS = ("cardiology", "oncology", "orthopaedics", "paediatrics", "neurology", "psychiatry")

FILLERS = {
    "en": {
        "side": ("left", "right"),
        "span": ("two days", "a week", "ten days", "three weeks", "two months", "half a year"),
        "few": ("two", "three", "four", "five", "six"),
    },
    "zh": {
        "side": ("左", "右"),
        "span": ("两天", "一周", "十天", "三周", "两个月", "半年"),
        "few": ("两", "三", "四", "五", "六"),
    },
}

OWN_EN: Bank = {
    "cardiology": (
        "Troponin flat on repeat, ECG with new T wave inversion in V3 to V5.",
        "Echo: ejection fraction 38 per cent, moderate mitral regurgitation.",
        "Atrial fibrillation with a rate of 128, started on bisoprolol.",
        "Exertional chest tightness for {span}, eased by nitrate spray.",
        "Coronary angiogram shows a 70 per cent lesion of the LAD, stent placed.",
        "Ankle swelling and orthopnoea, furosemide doubled.",
        "Pacemaker check: battery good, {few} short runs of tachycardia.",
        "Systolic murmur at the apex, louder than at the last visit.",
    ),
    "oncology": (
        "Cycle {few} of chemotherapy given, neutrophils 1.1 before the infusion.",
        "Staging CT shows {few} new liver metastases.",
        "Biopsy of the {side} breast: invasive ductal carcinoma, HER2 negative.",
        "CEA has risen again since the resection of the colon tumour.",
        "Radiotherapy field reviewed, {few} fractions left.",
        "Discussed at the tumour board: immunotherapy offered.",
        "Mucositis grade 2 after the last infusion, dose cut by a fifth.",
        "Lymphoma in remission on PET, port to stay for now.",
    ),
    "orthopaedics": (
        "Closed reduction of the {side} distal radius fracture, cast applied.",
        "{side} knee arthroscopy: torn medial meniscus trimmed.",
        "Range of motion after hip replacement 0 to 95 degrees, wound dry.",
        "X-ray of the {side} ankle: fibula healed, plate in place.",
        "Rotator cuff tear on MRI of the {side} shoulder, physiotherapy first.",
        "Lachman test positive, cruciate ligament repair planned.",
        "Osteoarthritis of the {side} hip, walks {few} hundred metres with a stick.",
        "Pin sites of the external fixator clean, weight bearing as tolerated.",
    ),
    "paediatrics": (
        "Brought in by the mother, vaccinations up to date.",
        "Weight on the 25th centile, height on the 40th, milestones met.",
        "Barking cough since last night, single dose of dexamethasone.",
        "Breast-fed, {few} wet nappies since the morning, fontanelle soft.",
        "Ear drum bulging on the {side}, amoxicillin by body weight.",
        "Missed {few} days of school, teacher reports no problems in class.",
        "Wheeze after every cold, spacer technique shown to the parents.",
        "Rash on trunk and cheeks, nursery has {few} other cases.",
    ),
    "neurology": (
        "Two generalised seizures, EEG with sharp waves over the {side} temporal lobe.",
        "{side} facial droop and slurred speech, thrombolysis within the window.",
        "MRI brain: {few} periventricular white matter lesions.",
        "Resting tremor of the {side} hand, levodopa wears off after {few} hours.",
        "Migraine with aura, triptan taken on {few} days of the month.",
        "Reflexes brisk on the {side}, plantar response extensor.",
        "Lumbar puncture: protein raised, oligoclonal bands present.",
        "Nerve conduction slowed in both legs, vibration sense lost to the ankle.",
    ),
    "psychiatry": (
        "Low mood for {span}, no plans of self-harm, sertraline raised to 100 mg.",
        "Hears voices less often since olanzapine was started.",
        "Sleeps {few} hours, speech pressured, spends freely; lithium level low.",
        "Panic attacks in crowded places, exposure therapy begun.",
        "Mental state: guarded, flat affect, oriented in all qualities.",
        "Washes hands for hours, rituals have grown over {span}.",
        "Drinks a bottle of wine a day, wishes to enter the detox programme.",
        "Nightmares since the accident, avoids the road, startles easily.",
    ),
}

OWN_ZH: Bank = {
    "cardiology": (
        "心电图示V3至V5导联T波倒置，肌钙蛋白复查无升高。",
        "超声心动图示EF 38%，二尖瓣中度反流。",
        "阵发性房颤，心室率128次/分，予美托洛尔。",
        "活动后胸闷{span}，含服硝酸甘油可缓解。",
        "冠脉造影示前降支狭窄70%，植入支架一枚。",
        "双下肢水肿，夜间不能平卧，呋塞米加量。",
    ),
    "oncology": (
        "第{few}周期化疗，用药前中性粒细胞1.1。",
        "CT示肝内{few}处新发转移灶。",
        "{side}乳穿刺病理：浸润性导管癌，HER2阴性。",
        "结肠肿瘤切除术后CEA再次升高。",
        "放疗剩余{few}次，照射野皮肤轻度发红。",
        "多学科讨论后建议免疫治疗。",
    ),
    "orthopaedics": (
        "{side}桡骨远端骨折手法复位，石膏固定。",
        "{side}膝关节镜下半月板修整术后。",
        "髋关节置换术后活动度0至95度，切口干燥。",
        "X线示{side}踝骨折愈合，钢板在位。",
        "MRI示{side}肩袖损伤，先行康复训练。",
        "外固定架针道清洁，可部分负重。",
    ),
    "paediatrics": (
        "患儿由母亲陪同就诊，疫苗按时接种。",
        "体重位于第25百分位，发育里程碑正常。",
        "犬吠样咳嗽一夜，予地塞米松一次。",
        "母乳喂养，前囟平软，尿布{few}片。",
        "{side}耳鼓膜充血，按体重予阿莫西林。",
        "幼儿园近日有{few}例类似皮疹。",
    ),
    "neurology": (
        "全身性抽搐两次，EEG示{side}颞叶尖波。",
        "{side}侧面瘫伴言语含糊，时间窗内溶栓。",
        "头颅MRI示侧脑室旁{few}处白质病灶。",
        "{side}手静止性震颤，左旋多巴药效{few}小时后减退。",
        "有先兆偏头痛，本月用曲普坦{few}天。",
        "腰穿示蛋白升高，寡克隆带阳性。",
    ),
    "psychiatry": (
        "情绪低落{span}，无自伤计划，舍曲林加至100 mg。",
        "服用奥氮平后幻听减少。",
        "每晚睡{few}小时，言语增多，花钱大方，血锂偏低。",
        "人多处惊恐发作，开始暴露治疗。",
        "反复洗手，{span}来强迫动作增多。",
        "车祸后噩梦，回避该路段，易受惊吓。",
    ),
}

SHARED_EN: PairBank = {
    ("cardiology", "psychiatry"): (
        "Palpitations at rest for {span}, mostly in the evening, with a fear of dying.",
        "Chest feels tight when upset, ECG at the practice was normal.",
    ),
    ("cardiology", "neurology"): (
        "Collapsed in the kitchen, came round within a minute, no warning.",
        "Transient weakness of the {side} arm, anticoagulation to be discussed.",
    ),
    ("cardiology", "paediatrics"): (
        "A soft murmur was heard at a routine check, no symptoms.",
        "Tires early in sports, lips said to turn blue once.",
    ),
    ("oncology", "orthopaedics"): (
        "Pain in the {side} femur at night, X-ray shows a lytic area.",
        "Swelling above the {side} knee for {span}, MRI requested.",
    ),
    ("oncology", "paediatrics"): (
        "Pale and bruises easily, blood film sent.",
        "Enlarged nodes on the {side} side of the neck for {span}, fever at times.",
    ),
    ("oncology", "cardiology"): (
        "Short of breath on the stairs, pleural effusion on the {side}.",
        "Echo requested before the next course of treatment.",
    ),
    ("orthopaedics", "neurology"): (
        "Back pain running down the {side} leg, numb big toe, MRI of the lumbar spine.",
        "Tingling in the {side} hand at night, grip a little weaker.",
    ),
    ("orthopaedics", "paediatrics"): (
        "Fell off the climbing frame onto the {side} elbow, swelling, moves the fingers.",
        "Limps on the {side} since a cold last week, hip movement a bit stiff.",
    ),
    ("orthopaedics", "psychiatry"): (
        "Pain everywhere for {span}, imaging without findings, sleeps badly.",
        "Off work for {span} since the accident, afraid to move the {side} arm.",
    ),
    ("paediatrics", "neurology"): (
        "Staring spells of a few seconds, noticed by the family, EEG requested.",
        "Headache {few} times a week, vomits in the morning at times.",
    ),
    ("paediatrics", "psychiatry"): (
        "Refuses school for {span}, stomach ache every morning.",
        "Hard to settle, cannot sit still, questionnaire handed out to the family.",
    ),
    ("neurology", "psychiatry"): (
        "Forgets appointments for {span}, family worried, memory test {few} points below normal.",
        "Dizzy and light-headed, feels unreal at times, examination normal.",
    ),
    ("oncology", "psychiatry"): (
        "Cannot sleep since the diagnosis, counselling offered.",
        "No appetite, has lost {few} kilograms in {span}, tired all day.",
    ),
    ("oncology", "neurology"): (
        "Numb fingers and toes since the infusions, steps unsure.",
        "New headache and double vision, contrast MRI of the head requested.",
    ),
    ("cardiology", "orthopaedics"): (
        "Calf on the {side} swollen after the operation, D-dimer raised, heparin started.",
        "Cleared for hip surgery, clopidogrel paused for {few} days.",
    ),
}

SHARED_ZH: PairBank = {
    ("cardiology", "psychiatry"): ("静息时心悸{span}，傍晚明显，伴濒死感。", "情绪激动时胸闷，外院心电图正常。"),
    ("cardiology", "neurology"): ("在家突然晕倒，一分钟内清醒。", "一过性{side}上肢无力，拟讨论抗凝。"),
    ("cardiology", "paediatrics"): ("体检时闻及轻度杂音，无症状。",),
    ("oncology", "orthopaedics"): ("{side}股骨夜间疼痛，X线见溶骨性改变。", "{side}膝上方肿胀{span}，申请MRI。"),
    ("oncology", "paediatrics"): ("面色苍白，易有瘀斑，已送血涂片。", "{side}颈部淋巴结肿大{span}，间断发热。"),
    ("oncology", "cardiology"): ("上楼气促，{side}侧胸腔积液。",),
    ("orthopaedics", "neurology"): ("腰痛放射至{side}下肢，拇趾麻木，查腰椎MRI。", "{side}手夜间发麻，握力稍差。"),
    ("orthopaedics", "paediatrics"): ("玩耍时跌倒，{side}肘肿胀，手指活动可。",),
    ("orthopaedics", "psychiatry"): ("全身疼痛{span}，影像未见异常，睡眠差。",),
    ("paediatrics", "neurology"): ("家人发现短暂愣神，申请EEG。", "每周头痛{few}次，晨起偶有呕吐。"),
    ("paediatrics", "psychiatry"): ("拒绝上学{span}，每天早晨腹痛。",),
    ("neurology", "psychiatry"): ("记忆力下降{span}，家属担心，量表评分偏低。", "头晕，偶有不真实感，查体正常。"),
    ("oncology", "psychiatry"): ("确诊后失眠，建议心理咨询。", "食欲差，{span}体重下降，整日乏力。"),
    ("oncology", "neurology"): ("输液后手足麻木，行走不稳。", "新发头痛伴复视，申请头颅增强MRI。"),
    ("cardiology", "orthopaedics"): ("术后{side}小腿肿胀，D-dimer升高，开始肝素。",),
}

GENERAL_EN: tuple[str, ...] = (
    "Feels better than at the last visit.",
    "Tired, sleeps poorly for {span}.",
    "No fever, no cough, appetite fair.",
    "Takes the tablets as prescribed, no side effects.",
    "Blood pressure 132 over 78, pulse 76, temperature 36.8.",
    "Blood count and electrolytes within the normal range.",
    "Abdomen soft, lungs clear, no oedema.",
    "CRP slightly raised, to be repeated in {span}.",
    "No known allergies.",
    "Allergic to penicillin.",
    "Plan explained and understood, written advice handed out.",
    "Review in clinic in {span}.",
    "MRI booked, results by letter.",
    "Pain {few} out of ten, paracetamol as needed.",
    "Advised to return at once if it gets worse.",
    "Family history without findings.",
    "Medication unchanged.",
    "Referred by the family doctor for a second opinion.",
)

GENERAL_ZH: tuple[str, ...] = (
    "较上次就诊好转。",
    "乏力，睡眠欠佳{span}。",
    "无发热，无咳嗽，食欲尚可。",
    "规律服药，无不良反应。",
    "血压132/78 mmHg，脉搏76次/分，体温36.8。",
    "血常规及电解质正常。",
    "腹软，双肺呼吸音清。",
    "CRP轻度升高，{span}后复查。",
    "否认药物过敏史。",
    "青霉素过敏。",
    "已告知病情及注意事项。",
    "{span}后门诊复诊。",
    "已预约MRI。",
    "疼痛{few}分，必要时服用止痛药。",
    "如有加重随时就诊。",
    "家族史无特殊。",
    "继续原方案。",
)

OPENINGS_EN: tuple[str, ...] = (
    "{name}, born {dob}, MRN {mrn}, seen on {visit}.",
    "Patient: {name} (MRN {mrn}). Visit {visit}.",
    "{title} {surname} was admitted to {hospital} on {visit}.",
    "{name}, {age} years, attended on {visit}.",
    "Patient: {name}. Tel. {phone}. MRN: {mrn}.",
    "{visit}. {title} {surname}, DOB {dob}, attends for review.",
    "Re: {name}, {address}. Record {patient_id}.",
    "Thank you for sending us {title} {surname}, whom we saw on {visit}.",
)

CLOSINGS_EN: tuple[str, ...] = (
    "Dr {doctor}, {hospital}",
    "Signed: Dr {doctor}, {visit}",
    "Results to {phone} or {email}. Dr {doctor}",
    "Copy of the letter to {address}.",
    "Next of kin: {kin}, {kin_phone}.",
    "Seen with Dr {doctor}. Call {phone} with the result.",
    "{title} {surname} was given our number, {desk_phone}.",
    "Discharged to {address}; Dr {doctor} informed.",
)

OPENINGS_ZH: tuple[str, ...] = (
    "患者{name}，病案号{mrn}，{visit}就诊。",
    "姓名：{name}，出生日期：{dob}，住院号：{mrn}。",
    "{name}，{age}岁，{visit}收入{hospital}。",
    "患者{name}，身份证号{resident_id}，联系电话{phone}。",
    "{visit}复诊。患者：{name}，手机{phone}。",
    "患者{name}，家住{address}，编号{patient_id}。",
)

CLOSINGS_ZH: tuple[str, ...] = (
    "主治医生：{doctor}",
    "{doctor}医生，{hospital}，{visit}",
    "结果请致电{phone}。{doctor}医生",
    "家属{kin}，电话{kin_phone}。",
    "报告寄至{address}。",
    "随访邮箱{email}，医生：{doctor}",
)
