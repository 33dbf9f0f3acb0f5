"""The clip norm has a floor: far below it float32 would round what a unit may add."""

import pytest

from privacy.errors import ConfigError
from protocol.job import parse_job

JOB = 'name = "test"\n[task]\nlabels = ["a", "b"]\n[privacy]\nclip = {}\n'


def test_the_least_clip_norm_is_taken() -> None:
    assert parse_job(JOB.format("0.0001"), "job.toml").privacy.clip == 1e-4


@pytest.mark.parametrize("clip", ["0.00009999", "1e-7", "0", "-1", "nan"])
def test_a_smaller_clip_norm_is_refused_by_name(clip: str) -> None:
    with pytest.raises(ConfigError, match="clip"):
        parse_job(JOB.format(clip), "job.toml")
