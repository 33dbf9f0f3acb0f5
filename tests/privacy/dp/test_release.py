"""The key of a release: bound to all that it is released for, paid by a charge, finished once."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from privacy.dp import Charge, Release, Request, SecureStream
from privacy.errors import BudgetError, ConfigError

REQUEST = Request(
    data_set="notes", run="run-1", round=3, job="1" * 64, base="2" * 64, plan="3" * 64, model="4" * 64
)  # fmt: skip
DATA, OTHER = "5" * 64, "6" * 64
RELEASE = Release(request=REQUEST, attempt=1, secret=bytes(range(32)), data=DATA)
CHARGE = Charge(
    dataset_id="notes", unit="record", job_id="1" * 64, run_id="run-1", round=3, attempt=1, plan_digest="3" * 64,
    q=0.1, sigma=1.0, steps=2, delta=1e-5,
)  # fmt: skip
OTHERS = [
    *(replace(RELEASE, request=replace(REQUEST, **{item.name: 9 if item.name == "round" else "7" * 64}))
      for item in fields(Request)),
    replace(RELEASE, data=OTHER),
    replace(RELEASE, secret=bytes(32)),
]  # fmt: skip
OTHER_NAMES = [*(item.name for item in fields(Request)), "data", "secret"]


def _noise(release: Release, count: int = 4000) -> np.ndarray:
    return SecureStream(release.key(), "noise").normal(count)


def test_the_key_is_hkdf_of_the_secret_over_all_that_it_is_bound_to() -> None:
    """RFC 5869 by hand: extract with a salt of zeros, one block of expansion."""
    bound = hashlib.sha256(json.dumps([asdict(REQUEST), DATA], sort_keys=True).encode()).digest()
    extracted = hmac.digest(bytes(32), RELEASE.secret, "sha256")
    assert RELEASE.key() == hmac.digest(extracted, b"cloister/v1/dp-release\x00" + bound + b"\x01", "sha256")


@pytest.mark.parametrize("other", OTHERS, ids=OTHER_NAMES)
def test_attack_the_noise_of_another_release_under_the_same_secret_does_not_cancel(other: Release) -> None:
    """Noise that is used twice is gone from the difference of two releases. Here it is not: over 4,000 numbers the
    difference of two independent normals has deviation sqrt 2 within 6 standard errors (false alarm 2e-9 each).
    """
    difference = _noise(RELEASE) - _noise(other)
    assert abs(difference.std() / np.sqrt(2.0) - 1) < 6 / np.sqrt(2 * 4000)
    assert other.key() != RELEASE.key()
    assert np.array_equal(_noise(RELEASE), _noise(replace(RELEASE)))


def test_which_charge_paid_is_no_part_of_the_key() -> None:
    """Else a key could be had twice for one release, by a second charge: a secret belongs to one charge alone."""
    assert replace(RELEASE, attempt=2, outcome=OTHER).key() == RELEASE.key()


def test_no_key_before_the_examples_are_known() -> None:
    with pytest.raises(BudgetError, match="expected examples"):
        replace(RELEASE, data="").key()


def test_a_release_is_bound_to_its_examples_once() -> None:
    fresh = Release.begin(REQUEST, 0)
    assert fresh.bound_to(DATA) == replace(fresh, data=DATA) == fresh.bound_to(DATA).bound_to(DATA)
    with pytest.raises(BudgetError, match="expected the examples that it was begun with; found others"):
        RELEASE.bound_to(OTHER)


def test_what_is_computed_again_must_be_the_same_bytes() -> None:
    finished = RELEASE.finished(OTHER)
    assert finished.finished(OTHER) == finished
    with pytest.raises(BudgetError, match="expected the bytes that were released before"):
        finished.finished(DATA)


def test_a_release_is_resumed_only_for_the_same_request() -> None:
    assert RELEASE.answers(REQUEST)
    assert not any(RELEASE.answers(other.request) for other in OTHERS[: len(fields(Request))])


def test_a_release_is_paid_by_its_own_charge_and_no_other() -> None:
    assert RELEASE.is_paid([CHARGE])
    assert not RELEASE.is_paid([])
    for change in ({"attempt": 0}, {"round": 2}, {"run_id": "r"}, {"dataset_id": "d"}, {"plan_digest": "p"}):
        assert not RELEASE.is_paid([replace(CHARGE, **change)])


def test_secrets_are_fresh_and_shown_nowhere() -> None:
    one, other = Release.begin(REQUEST, 0), Release.begin(REQUEST, 0)
    assert len({one.secret, other.secret, bytes(32)}) == 3
    assert one.secret.hex() not in repr(one) + str(one)
    assert repr(one.secret) not in repr(one)


def test_a_stored_release_comes_back_and_anything_else_is_refused_without_being_shown() -> None:
    assert Release.from_bytes(RELEASE.to_bytes()) == RELEASE
    values = json.loads(RELEASE.to_bytes())
    broken = [
        b"", b"[]", b"\xff", RELEASE.to_bytes()[:-1],
        *(json.dumps({**values, name: value}).encode() for name, value in (
            ("version", 2), ("secret", "00" * 31), ("secret", "zz" * 32), ("attempt", -1), ("attempt", True),
            ("data", "short"), ("outcome", 5), ("request", {}), ("more", 1),
        )),
        json.dumps({name: value for name, value in values.items() if name != "secret"}).encode(),
    ]  # fmt: skip
    for data in broken:
        with pytest.raises(ConfigError, match="a site's open release") as caught:
            Release.from_bytes(data)
        assert RELEASE.secret.hex()[:8] not in str(caught.value)
