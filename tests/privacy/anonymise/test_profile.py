"""Profiles: what they hide, which covers which, and how a wrong file is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from privacy.anonymise import Kind, Profile, Treatment, load_profile, packaged_profiles
from privacy.anonymise.profile import parse_profile
from privacy.errors import ConfigError

NAMES = ("gdpr-pseudonymise", "hipaa-safe-harbor", "pci", "pipl", "strict")
GOOD = """
name = "mine"
summary = "s"
ages_over = 89
earliest_year = 1940
[hide]
name = "tag"
date = "year"
"""


def test_the_packaged_profiles_are_these() -> None:
    assert packaged_profiles() == NAMES
    assert [load_profile(name).name for name in NAMES] == list(NAMES)


def test_every_profile_covers_itself_and_strict_covers_all() -> None:
    for name in NAMES:
        assert load_profile(name).covers(load_profile(name))
        assert load_profile("strict").covers(load_profile(name))


def test_covering_is_a_partial_order() -> None:
    profiles = [load_profile(name) for name in NAMES]
    for one, two, three in product(profiles, repeat=3):
        if one.covers(two) and two.covers(three):
            assert one.covers(three)
        if one.covers(two) and two.covers(one):
            assert one == two


def test_a_profile_that_shows_less_covers_one_that_shows_more_and_not_the_reverse() -> None:
    def profile(treatment: str, ages: int = 89, year: int = 1940) -> Profile:
        text = GOOD.replace('"year"', f'"{treatment}"').replace("89", str(ages)).replace("1940", str(year))
        return parse_profile(text + 'age = "tag"\n', "mine.toml")

    assert profile("tag").covers(profile("year"))
    assert not profile("year").covers(profile("tag"))
    assert not profile("year").covers(profile("pseudonym"))
    assert not profile("pseudonym").covers(profile("year"))
    assert profile("tag", ages=79).covers(profile("tag", ages=89))
    assert not profile("tag", ages=89).covers(profile("tag", ages=79))
    assert profile("year", year=1950).covers(profile("year", year=1940))
    assert not profile("year", year=1940).covers(profile("year", year=1950))


def test_a_profile_does_not_cover_one_that_hides_one_kind_more() -> None:
    assert not load_profile("hipaa-safe-harbor").covers(load_profile("pipl"))  # pipl hides regions
    assert not load_profile("pci").covers(load_profile("hipaa-safe-harbor"))


def test_safe_harbor_hides_all_but_regions_sex_profession_and_unknown_words() -> None:
    profile = load_profile("hipaa-safe-harbor")
    assert set(Kind) - profile.kinds == {Kind.REGION, Kind.SEX, Kind.PROFESSION, Kind.OTHER}
    assert profile.treatments[Kind.DATE] is Treatment.YEAR


def test_a_profile_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_profile(str(path)).treatments == {Kind.NAME: Treatment.TAG, Kind.DATE: Treatment.YEAR}


@pytest.mark.parametrize(
    ("change", "key", "found"),
    [
        (('name = "tag"', 'nom = "tag"'), "hide.nom", "'nom'"),
        (('name = "tag"', 'name = "gone"'), "hide.name", "'gone'"),
        (('name = "tag"', "name = 3"), "hide.name", "3"),
        (('name = "tag"', 'name = "year"'), "hide.name", "'year'"),
        (("ages_over = 89", 'ages_over = "old"'), "ages_over", "'old'"),
        (("ages_over = 89", "ages_over = true"), "ages_over", "True"),
        (("ages_over = 89", ""), "ages_over", "nothing"),
        (('summary = "s"', 'sumary = "s"'), "sumary", "unknown"),
        (("[hide]", "[hidden]"), "hidden", "unknown"),
        (("[hide]", "hide"), "profile file", "line"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_was_found(
    tmp_path: Path, change: tuple[str, str], key: str, found: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(*change, 1) if "name" not in change[0] else GOOD.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path))
    message = str(caught.value)
    assert "mine.toml" in message
    assert key in message
    assert found in message
    assert "expected" in message


def test_a_profile_that_hides_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one kind"):
        parse_profile(GOOD.partition("[hide]")[0] + "[hide]\n", "mine.toml")


def test_an_unknown_name_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hipaa-safe-harbor, pci"):
        load_profile("hippa")
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_profile(str(tmp_path / "absent.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml"):
        load_profile(str(tmp_path / "bytes.toml"))
