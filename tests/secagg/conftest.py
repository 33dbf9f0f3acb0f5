"""One federation of four sites for all attacks: each test takes a round of its own."""

import pytest

from tests.secagg.liar import Liar
from tests.secagg.masked import masked


@pytest.fixture(scope="session")
def liar(tmp_path_factory, tiny_base):
    job = {"federation": {"rounds": 1000}}
    return Liar(masked(tmp_path_factory.mktemp("four"), tiny_base, sites=4, job=job, sizes=True))
