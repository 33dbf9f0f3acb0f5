"""Attempts of four sites, stopped after each round."""

import pytest

from tests.privacy.secagg.driver import Attempt, make_session


@pytest.fixture
def advertised():
    return Attempt(make_session(4)).run(until="advert")


@pytest.fixture
def shared():
    return Attempt(make_session(4)).run(until="shares")


@pytest.fixture
def masked():
    """Four sites, of which number 2 drops before its masked input."""
    return Attempt(make_session(4)).run({"input": (2,)}, until="input")


@pytest.fixture
def attested():
    return Attempt(make_session(4)).run({"input": (2,)}, until="attestation")
