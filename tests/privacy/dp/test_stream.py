"""Streams: the right bytes, the right distributions, and no two copies of one.

Statistical tests use fixed keys, so they do not flicker; each states the chance that a random key would have raised it.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from scipy import stats

from privacy.dp import SecureStream
from privacy.dp.stream import _CHUNK
from privacy.errors import ConfigError, TrainingError

KEY = bytes(range(32))
SWEEP = [0, 1, 2, _CHUNK - 1, _CHUNK, _CHUNK + 1, 3 * _CHUNK]


def test_the_bytes_are_aes_ctr_under_the_derived_key() -> None:
    derived = HKDF(SHA256(), 32, None, b"cloister/v1/dp-stream/noise").derive(KEY)
    keystream = Cipher(algorithms.AES256(derived), modes.CTR(bytes(16))).encryptor().update(bytes(800))
    assert SecureStream(KEY, "noise").uint64(100).tobytes() == keystream


@pytest.mark.parametrize("n", SWEEP)
def test_every_length_is_drawn_whole_and_continues_the_stream(n: int) -> None:
    whole = SecureStream(KEY, "noise").uint64(n + 5)
    parts = SecureStream(KEY, "noise")
    assert np.array_equal(np.concatenate([parts.uint64(n), parts.uint64(5)]), whole)
    for draw in (parts.uniform, parts.normal):
        values = draw(n)
        assert values.dtype == np.float64 and values.shape == (n,)
        assert len(np.unique(values)) == n


@pytest.mark.parametrize("n", SWEEP)
def test_a_stream_of_the_same_key_replays_identical_numbers(n: int) -> None:
    one, two = SecureStream(KEY, "noise"), SecureStream(KEY, "noise")
    assert np.array_equal(one.normal(n), two.normal(n))
    assert np.array_equal(one.uniform(7), two.uniform(7))


@pytest.mark.parametrize("drawn", [0, 1, 3, _CHUNK + 1])
def test_a_stream_taken_up_at_a_position_goes_on_where_the_first_stopped(drawn: int) -> None:
    first = SecureStream(KEY, "noise")
    first.uint64(drawn)
    assert np.array_equal(SecureStream(KEY, "noise", position=first.position).normal(9), first.normal(9))


def test_streams_of_two_keys_or_purposes_or_of_the_system_share_nothing() -> None:
    streams = [SecureStream(KEY, "noise"), SecureStream(KEY, "lots"), SecureStream(bytes(32), "noise")]
    streams += [SecureStream.from_os("noise"), SecureStream.from_os("noise")]
    words = np.concatenate([s.uint64(1000) for s in streams])
    assert len(np.unique(words)) == len(words)
    normals = np.stack([s.normal(20000) for s in streams])
    correlation = np.abs(np.corrcoef(normals) - np.eye(len(streams))).max()
    assert correlation < 6 / np.sqrt(20000)  # 10 pairs: false alarm below 1e-7


def test_uniform_numbers_are_uniform_on_the_half_open_interval() -> None:
    values = SecureStream(KEY, "u").uniform(200_000)
    assert values.min() >= 0 and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-4  # false alarm 1e-4


def test_normal_numbers_are_standard_normal() -> None:
    """Kolmogorov-Smirnov: false alarm 1e-4; noise of 0.97 or 1.03 times the size would fail by far."""
    values = SecureStream(KEY, "n").normal(300_000)
    assert stats.kstest(values, "norm").pvalue > 1e-4
    for wrong in (0.97, 1.03):
        assert stats.kstest(values * wrong, "norm").pvalue < 1e-6


def test_normal_numbers_are_independent_and_have_tails() -> None:
    values = SecureStream(KEY, "n").normal(1_000_000)
    for lag in (1, 2, _CHUNK // 2, _CHUNK, 2 * _CHUNK):
        assert abs(np.corrcoef(values[lag:], values[:-lag])[0, 1]) < 6e-3  # six deviations: 1e-8
    beyond = int((np.abs(values) > 4).sum())
    assert stats.binomtest(beyond, len(values), 2 * stats.norm.sf(4)).pvalue > 1e-4  # false alarm 1e-4


def test_each_normal_number_is_half_the_sum_of_two_whole_box_muller_pairs() -> None:
    """Against the textbook formula, number by number: a single pair would leave low bits to trace."""
    n = 50
    words = [int(w) >> 11 for w in SecureStream(KEY, "n").uint64(4 * n)]

    def pair(i: int) -> tuple[float, float]:
        radius = math.sqrt(-2 * math.log(1 - words[i] / 2**53))
        angle = 2 * math.pi * words[2 * n + i] / 2**53
        return radius * math.cos(angle), radius * math.sin(angle)

    expected = [sum(pair(i) + pair(n + i)) / 2 for i in range(n)]
    assert SecureStream(KEY, "n").normal(n) == pytest.approx(expected, rel=1e-12)


def test_a_stream_used_after_a_fork_raises_before_it_draws() -> None:
    stream = SecureStream(KEY, "noise")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        verdict = b"drew"
        try:
            stream.normal(1)
        except TrainingError:
            verdict = b"refused" if stream.position == 0 else b"moved"
        finally:
            os.write(writing, verdict)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 20) == b"refused"
    stream.normal(1)


@pytest.mark.parametrize("steal", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_stream_is_not_copied(steal) -> None:
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        steal(SecureStream(KEY, "noise"))


def test_no_representation_and_no_attribute_shows_the_key() -> None:
    stream = SecureStream(b"SECRET-KEY-SECRET-KEY-SECRET-KEY", "noise")
    assert repr(stream) == str(stream) == "SecureStream(purpose='noise', position=0)"
    values = [getattr(stream, name) for name in SecureStream.__slots__]
    assert not any(isinstance(v, bytes) for v in values) and not hasattr(stream, "__dict__")


@pytest.mark.parametrize(
    "key, purpose, position",
    [(bytes(31), "a", 0), (bytes(33), "a", 0), ("k" * 32, "a", 0), (KEY, "", 0), (KEY, "a", -1)],
)
def test_a_malformed_stream_is_refused_without_showing_the_key(key, purpose: str, position: int) -> None:
    with pytest.raises(ConfigError) as error:
        SecureStream(key, purpose, position=position)
    assert "kkk" not in str(error.value)


@pytest.mark.parametrize("draw", ["uint64", "uniform", "normal"])
def test_a_negative_draw_is_refused(draw: str) -> None:
    with pytest.raises(ConfigError):
        getattr(SecureStream(KEY, "a"), draw)(-1)


def test_a_million_coordinates_of_noise_cost_well_under_a_second_of_one_core() -> None:
    """About 0.16 s here; ten million a few seconds."""
    start = time.process_time()
    SecureStream(KEY, "noise").normal(1_000_000)
    assert time.process_time() - start < 1.0
