"""Names, places and organisations: found by cue, list and shape; medicine that looks like a name stays."""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import hidden, redact


@pytest.mark.parametrize(
    "name",
    ["Dr. Xqwzy", "Mr. Brown", "Mrs. van der Quell", "Prof. O'Neill", "Ms Young-Li", "Dr. J. R. Quell",
     "Anna S.", "John Smith", "J. Smith",
     "Mary Brown", "John Wilson", "Zoltan Quexley", "José García", "MARIA LOPEZ", "Jean-Luc Moreau"],
)  # fmt: skip
def test_a_name_is_hidden_whole(name: str) -> None:
    assert redact(f"It was {name}, who came.") == "It was [NAME], who came."


@pytest.mark.parametrize(
    "cue", ["patient", "Patient:", "Name:", "nurse", "named", "daughter", "Regards,", "signed by:"]
)
def test_a_cue_makes_a_name_of_an_unknown_word(cue: str) -> None:
    assert redact(f"the {cue} Quexley today") == f"the {cue} [NAME] today"


def test_a_name_that_is_cued_once_is_hidden_everywhere_in_any_case() -> None:
    text = "Quexley felt ill. Dr. Quexley wrote. QUEXLEY and quexley left; quexleys did not."
    assert redact(text) == "[NAME] felt ill. [NAME] wrote. [NAME] and [NAME] left; quexleys did not."


@pytest.mark.parametrize(
    "text",
    ["Doctor: Any fever?\nPatient: No. I don't think so.", "Patient: Oh, um, nope.", "Patient: Guest, sit down.",
     "Customer: Hi, okay, bye.", "the Fair Credit Reporting Act, said the Claimant", "the (anti-Hu) antibodies"],
)  # fmt: skip
def test_the_small_words_of_talk_and_of_complaints_stay(text: str) -> None:
    assert redact(text, profile="hipaa-safe-harbor") == text


@pytest.mark.parametrize("name", ["Ẩn Nguyễn", "Ẁatson Ḁlison", "Łukasz Żak", "Şahin Çelik", "Ωmega Ψarros"])
def test_a_name_may_begin_with_any_capital_letter(name: str) -> None:
    assert redact(f"It was Dr. {name}, who came.") == "It was [NAME], who came."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Prof. Quexley said that the prof came", "[NAME] said that the prof came"),
        ("Mrs. Quexley met the mrs today", "[NAME] met the mrs today"),
        ("Anna Quexley PhD, his phd thesis", "[NAME], his phd thesis"),
        ("Dr. Anna Quexley DDS, saw dds", "[NAME], saw dds"),
        ("Señora Quexley, la señora", "[NAME], la señora"),
    ],
)
def test_a_title_and_a_degree_of_a_name_are_no_names_elsewhere(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("name", ["Stauﬀer", "Griﬃn", "Rudolﬀ", "Coﬀey-Ngọc"])
def test_letters_that_are_joined_are_letters_of_a_name(name: str) -> None:
    assert redact(f"It was Mrs. {name}, who came.") == "It was [NAME], who came."


def test_a_common_word_that_is_a_cued_name_stays_elsewhere() -> None:
    assert redact("Mr. Brown has brown sputum.") == "[NAME] has brown sputum."


@pytest.mark.parametrize(
    "text",
    ["Parkinson's disease and Crohn's disease", "a Colles fracture", "the Glasgow Coma Scale",
     "Gleason score 7", "positive Chaddock reflex",
     "Wilson disease, Down syndrome", "on Coumadin and Lisinopril", "Stage III, T12 and L4-L5",
     "Graves' disease", "Non-Hodgkin lymphoma",
     "African American male", "Framingham Risk Score", "Dry cough. Patient denies pain. Plan: Follow up.",
     "HISTORY OF PRESENT ILLNESS",
     "Type 2 Diabetes, Hypertension", "The MRI and EKG were normal.", "Foley catheter", "Epstein-Barr virus"],
)  # fmt: skip
def test_medicine_that_looks_like_a_name_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("seen at Quex Hospital today", "seen at [ORGANISATION] today"),
        ("seen at St. Mary's Hospital today", "seen at [ORGANISATION] today"),
        ("seen at St. Mary's today", "seen at [ORGANISATION] today"),
        ("at Brigham and Women's Hospital now", "at [ORGANISATION] now"),
        ("Bank of Quexland closed", "[ORGANISATION] closed"),
        ("Mercy Clinic in Denver called", "[ORGANISATION] called"),
        ("our Dallas facility", "our [ORGANISATION]"),
        ("seen at Cedars-Sinai", "seen at [ORGANISATION]"),
        ("evaluated at BWH", "evaluated at [ORGANISATION]"),
        ("moved from Quexville", "moved from [LOCATION]"),
        ("lives in New York City now", "lives in [LOCATION] now"),
        ("lives in Chicago", "lives in [LOCATION]"),
        ("the hospital and the clinic", "the hospital and the clinic"),
        ("admitted to the ICU at night", "admitted to the ICU at night"),
    ],
)
def test_organisations_and_places(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_unknown_capitalised_words_go_only_where_the_profile_is_strict() -> None:
    assert redact("We used Quexor daily.") == "We used Quexor daily."
    assert redact("We used Quexor daily.", "strict") == "We used [OTHER] daily."
    assert (
        redact("at 47 Quexor, 12345", "strict").count("[OTHER]") + redact("47 Quexor 12345", "strict").count("4") >= 1
    )


def test_names_in_small_letters() -> None:
    assert redact("my friend david anderson called") == "my friend [NAME] called"
    assert redact("said monica to me", "strict") == "said [OTHER] to me"
    assert redact("20 mg daily, house 12 Quexley 12345", "strict") == "20 mg daily, house [OTHER] [OTHER] [OTHER]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("患者张伟，男，头痛。张伟诉乏力。", "患者[NAME]，男，头痛。[NAME]诉乏力。"),
        ("姓名：李小红 性别：女", "姓名：[NAME] 性别：女"),
        ("由欧阳明医生主刀", "由[NAME]医生主刀"),
        ("联系人：赵敏（妻子）", "联系人：[NAME]（妻子）"),
        ("主任查房，患者因咳嗽入院", "主任查房，患者因咳嗽入院"),
    ],
)
def test_chinese_names_are_found_by_cue_and_role(text: str, shown: str) -> None:
    assert redact(text, "pipl") == shown


def test_a_latin_name_in_chinese_text() -> None:
    assert hidden("患者John Smith入院", "pipl") == [("John Smith", "name")]


@pytest.mark.parametrize(
    "text",
    [
        "Thank you, Doctor. Do I need a follow-up?",
        "Good afternoon Sir. Do you know how it went?",
        "It is inherited in an X-linked pattern. An X-ray was done.",
        "Gene Review: alpha thalassemia",
        "Patient: Ouch. It hurts.\nPatient: Ugh.\nPatient: Eh, not really. Doctor: Yessir.",
    ],
)
def test_what_talk_and_textbooks_write_with_a_capital_names_no_one(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Thank you, Doctor. Quexley said so.", "Thank you, [NAME] said so."),
        ("Thank you, Doctor Do, I will.", "Thank you, [NAME], I will."),
        ("Seen by Dr. Ray and Gene Ouchley.", "Seen by [NAME] and [NAME]."),
    ],
)
def test_names_beside_those_words_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
