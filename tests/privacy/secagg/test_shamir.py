"""Shamir's sharing against a slow interpolation by Gauss's elimination, and what fewer shares say (nothing)."""

import itertools
import secrets

import pytest

from privacy.secagg import shamir

P = 2**256 + 297


def solve(shares, threshold):
    """The constant term by solving the Vandermonde system modulo P: no formula of Lagrange's."""
    points = list(shares)[:threshold]
    rows = [[pow(x, power, P) for power in range(threshold)] + [int.from_bytes(shares[x], "big")] for x in points]
    for column in range(threshold):
        pivot = next(row for row in range(column, threshold) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = pow(rows[column][column], -1, P)
        rows[column] = [value * inverse % P for value in rows[column]]
        for row in range(threshold):
            if row != column:
                factor = rows[row][column]
                rows[row] = [(a - factor * b) % P for a, b in zip(rows[row], rows[column], strict=True)]
    return rows[0][-1]


def miller_rabin(n):
    """Deterministic enough: 40 random bases leave a chance of 4^-40 for a composite."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(40):
        x = pow(secrets.randbelow(n - 3) + 2, odd, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_field_is_that_of_the_first_prime_above_two_to_the_256():
    assert shamir.PRIME == P and miller_rabin(P)
    assert not any(miller_rabin(2**256 + odd) for odd in range(1, 297, 2))


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\x01", bytes(range(1, 33))])
@pytest.mark.parametrize(("threshold", "n"), [(1, 1), (1, 3), (3, 3), (3, 5), (7, 10)])
def test_any_threshold_of_shares_gives_the_secret(secret, threshold, n):
    shares = shamir.split(secret, threshold, range(1, n + 1))
    assert all(len(share) == 33 for share in shares.values())
    for subset in itertools.combinations(shares, threshold):
        chosen = {point: shares[point] for point in subset}
        assert shamir.combine(chosen, threshold) == secret
        assert solve(chosen, threshold) == int.from_bytes(secret, "big")


def test_points_may_have_gaps():
    secret = secrets.token_bytes(32)
    shares = shamir.split(secret, 3, [2, 50, 99, 100])
    assert shamir.combine({point: shares[point] for point in (100, 2, 99)}, 3) == secret


@pytest.mark.parametrize("claimed", [0, 1, 2**256 - 1, 12345])
def test_one_share_fewer_is_consistent_with_every_secret(claimed):
    shares = shamir.split(secrets.token_bytes(32), 3, range(1, 6))
    # the line of degree 2 through the claimed secret at 0 and the two shares, evaluated at 3, by solving for it
    known = {1: shares[1], 2: shares[2]}
    points = [0, 1, 2]
    values = [claimed, *(int.from_bytes(known[x], "big") for x in (1, 2))]
    at_three = 0
    for place, value in zip(points, values, strict=True):
        term = value
        for other in points:
            if other != place:
                term = term * (3 - other) * pow(place - other, -1, P) % P
        at_three += term
    completed = {**known, 3: (at_three % P).to_bytes(33, "big")}
    assert shamir.combine(completed, 3) == claimed.to_bytes(32, "big")


def test_shares_of_one_secret_are_fresh_each_time():
    secret = secrets.token_bytes(32)
    drawn = [shamir.split(secret, 2, [1, 2, 3])[1] for _ in range(50)]
    assert len(set(drawn)) == 50


def test_the_single_share_of_a_threshold_of_two_is_uniform():
    """Chi-square over the 16 values of a share's highest nibble below 2^256; false alarm below 10^-6 (15 degrees)."""
    counts = [0] * 16
    for _ in range(3200):
        counts[shamir.split(bytes(32), 2, [1, 2])[1][1] >> 4] += 1
    assert sum((count - 200) ** 2 / 200 for count in counts) < 58


BROKEN = {
    "too few": {1: bytes(33)},
    "too short": {1: bytes(33), 2: bytes(32)},
    "too long": {1: bytes(33), 2: bytes(34)},
    "outside the field": {1: bytes(33), 2: P.to_bytes(33, "big")},
    "the point of the secret": {0: bytes(33), 1: bytes(33)},
    "a result that is no secret": {1: (P - 1).to_bytes(33, "big"), 2: (P - 1).to_bytes(33, "big")},
}


@pytest.mark.parametrize("shares", BROKEN.values(), ids=BROKEN)
def test_shares_that_do_not_combine_are_refused_in_one_and_the_same_words(shares):
    with pytest.raises(ValueError, match=r"^the shares do not combine$"):
        shamir.combine(shares, 2)


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [
        (bytes(31), 2, [1, 2]),
        (bytes(32), 3, [1, 2]),
        (bytes(32), 0, [1]),
        (bytes(32), 2, [1, 1]),
        (bytes(32), 2, [0, 1]),
    ],
)
def test_sharing_refuses_what_could_not_be_combined_or_would_show_the_secret(secret, threshold, points):
    with pytest.raises(ValueError):
        shamir.split(secret, threshold, points)
