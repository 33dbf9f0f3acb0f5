"""Names that are common words or eponyms, too, or that are written small: labels, roles and titles tell them."""

from __future__ import annotations

import pytest

from tests.privacy.anonymise.tools import hidden, redact

EVERY = ("hipaa-safe-harbor", "strict")


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Patient: Clark Young", ["Clark Young"]),
        ("Patient: Grace Young was seen.", ["Grace Young"]),
        ("Patient: Wright, Walker", ["Wright, Walker"]),
        ("Pt name: White, Rose", ["White, Rose"]),
        ("Patient: Bell, Turner J.", ["Bell, Turner J."]),
        ("Name: Grace Green\nAge of consent", ["Grace Green"]),
        ("Attending: WHITE, ROSE MD", ["WHITE, ROSE MD"]),
        ("Emergency contact: LEE MIN HO", ["LEE MIN HO"]),
        ("PCP: PARK", ["PARK"]),
        ("PHARMACIST: NG", ["NG"]),
        ("PCP: Long", ["Long"]),
        ("Patient: Brown\nDiagnosis: gout", ["Brown"]),
        ("Doctor: How are you?\nPatient: Well.\nAttending: Young", ["Young"]),
    ],
)
def test_what_a_label_and_a_colon_lead_in_is_a_name_whatever_the_lists_say(
    profile: str, text: str, names: list[str]
) -> None:
    assert [value for value, kind in hidden(text, profile) if kind == "name"] == names


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Patient Carter has pain", ["Carter"]),
        ("the patient Brown denies pain", ["Brown"]),
        ("signed by Clark Young today", ["Clark Young"]),
        ("Nurse Joy came.", ["Joy"]),
        ("told the supervisor Faith about it", ["Faith"]),
        ("Nurse Quexley came.", ["Quexley"]),
        ("the RN Quexley and my rep Quoxley", ["Quexley", "Quoxley"]),
        ("KIM, SU-JIN", ["KIM", "SU-JIN"]),
        ("seen: Smith, John", ["Smith", "John"]),
    ],
)
def test_a_role_or_a_comma_makes_a_name_of_listed_words(profile: str, text: str, names: list[str]) -> None:
    assert [value for value, kind in hidden(text, profile) if kind == "name"] == names


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Dr patel saw her.", ["Dr patel"]),
        ("Seen by dr khan and nurse lopez.", ["dr khan", "lopez"]),
        ("patients name is shaniqua brownlee", ["shaniqua brownlee"]),
        ("my name is Grace.", ["Grace"]),
        ("mr smithers", ["mr smithers"]),
        ("dr. oyelaran", ["dr. oyelaran"]),
        ("mrs. kowalczyk's", ["mrs. kowalczyk's"]),
        ("Mr brown came", ["Mr brown"]),
    ],
)
def test_a_title_makes_a_name_of_a_word_in_small_letters(profile: str, text: str, names: list[str]) -> None:
    assert [value for value, kind in hidden(text, profile) if kind == "name"] == names


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Dr. Jones saw him; Jones thinks so", "[NAME] saw him; [NAME] thinks so"),
        ("Patient: Smith, John. Later Smith said", "Patient: [NAME]. Later [NAME] said"),
        ("Dr. Young left. Young thinks so.", "[NAME] left. [NAME] thinks so."),
        ("PCP: SMITH\nSMITH and Smith", "PCP: [NAME]\n[NAME] and [NAME]"),
        ("mr smithers left; smithers said", "[NAME] left; [NAME] said"),
    ],
)
def test_a_namesake_that_is_titled_once_is_hidden_wherever_it_has_its_capital(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Mr. Brown has brown sputum.", "Dr. Brown came. Brown sputum was seen.", "Dr. Smith saw a Smith fracture",
        "Dr. White came. No White type of it", "Dr. Brown saw Brown-Sequard",
    ],
)  # fmt: skip
def test_the_common_word_and_the_eponym_stay_beside_the_name(text: str) -> None:
    assert [value[:3] for value, _ in hidden(text)] in (["Mr."], ["Dr."])


@pytest.mark.parametrize(
    "text",
    [
        "Doctor: Which grain?\nPatient: Rice.\nDoctor: Good.",
        "Patient: Good morning", "Patient: Long day, really.", "Patient: White blood cells are up.",
        "Patient White count 12.", "Patient Home Care Instructions", "Nurse Case Manager called.",
        "Nurse Practitioner, Nurse Manager", "Drug name: Carter pills", "Brand Name: Young", "Father: Good health",
        "Contact: Graves disease", "Contact: Isolation precautions", "Attending: None", "PCP: None",
        "agent Orange exposure", "charged by Price Day Rates",
        "Love, Long", "Best, then Love", "Plan: Young adult clinic", "Will call the patient May 3rd week",
    ],
)  # fmt: skip
def test_labels_and_roles_before_common_words_hide_nothing(text: str) -> None:
    assert "[NAME]" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "ms flare, ms patients and mr angiography", "mr head without contrast", "mr long standing",
        "the ms contin dose",
        "the dr prescribed it, dr said, nurse said, doctor appointment", "dr perscribed it", "nurse anesthetist",
        "the name is unknown", "the generic name is acetaminophen", "my name is on the list",
        "his name was still there",
        "supervisor will call, rep said",
    ],
)  # fmt: skip
@pytest.mark.parametrize("profile", EVERY)
def test_titles_in_small_letters_before_common_words_hide_nothing(text: str, profile: str) -> None:
    assert "[NAME]" not in redact(text, profile)


def test_the_end_of_a_letter_is_no_surname() -> None:
    assert hidden("Love, Mary") == [("Mary", "name")]
