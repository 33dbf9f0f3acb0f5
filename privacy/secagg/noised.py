"""An update as integers whose norm is bounded after rounding, under one site's share of the noise.

Rounding is drawn again until the norm that the noise was calibrated for holds; then a discrete Gaussian is added to
each coordinate, modulo 2^bits. Weights are public constants of the run and get no noise; a plan with noise has no
metrics.

All randomness comes from one key, made of a secret that is kept with the update, the attempt's context and the update
itself. So one attempt has one noise: asked twice, also after a restart, it gives the same integers; another attempt or
another update has its own, independent one, and what is under it is charged for itself.

Source: Kairouz, Liu and Steinke 2021 (arXiv 2102.06387), algorithm 1 (conditional rounding, discrete Gaussian, sum).
"""

from __future__ import annotations

import numpy as np

from privacy.content_hash import content_hash
from privacy.dp.stream import SecureStream
from privacy.errors import ConfigError, TrainingError
from privacy.secagg.discrete_gaussian import DiscreteGaussian
from privacy.secagg.encoding import labelled_hash, u16
from privacy.secagg.keys import SECRET_BYTES, derive
from privacy.secagg.masks import Lanes
from privacy.secagg.plan import SecAggPlan
from privacy.secagg.quantise import Contribution, Quantiser

_MOST_DRAWS = 1000
"""Each draw of the rounding holds the norm but with a chance of e^-8: this many do not fail."""

_ROUNDING_ERROR = 1e-9
"""The sum of squares is a floating-point number: it is held below the bound by more than it can be off."""


def noise_key(ctx: bytes, site: int, contribution: Contribution) -> bytes:
    """The key of one contribution's rounding and noise in one attempt, 32 bytes.

    Raises: ConfigError unless the contribution brings a secret of 32 bytes.
    """
    if len(contribution.secret) != SECRET_BYTES:
        raise ConfigError("a noised contribution", expected=f"a secret of {SECRET_BYTES} bytes for its noise")
    update = content_hash()
    update.update(np.ascontiguousarray(contribution.update).reshape(-1).view(np.uint8).data)
    return derive(contribution.secret, ctx, b"noise", u16(site), contribution.release, update.digest())


class NoisedQuantiser(Quantiser):
    """Integers of one contribution with this site's share of the noise, chunk by chunk. key: of `noise_key`.

    Raises: as `Quantiser`; ConfigError for a plan without noise.
    Guarantees: before the noise the squared L2 norm is at most the plan's sensitivity, whatever the update; every
    coordinate has a share of its own; equal keys and updates give equal integers, in whatever order chunks are asked
    for. Edge cases: an update of zeros, one at the norm's bound, coordinates on half steps, a chunk of one lane.
    """

    def __init__(self, plan: SecAggPlan, contribution: Contribution, key: bytes) -> None:
        if plan.noise is None:
            raise ConfigError("a noised contribution", expected="a plan with noise", found="one without")
        self._most = plan.noise.sensitivity_squared
        self._key, self._gaussian = key, DiscreteGaussian(plan.noise.variance)
        super().__init__(plan, contribution, self._rounding_key(0))
        self.draws = self._round_within_the_norm()
        # The same update under other noise is another release.
        self.fingerprint = labelled_hash(b"cloister/v1/secagg/noised", self.fingerprint, key)

    def chunk(self, number: int) -> Lanes:
        """Chunk `number` of the vector, noised and unmasked: unsigned, (lanes of that chunk,)."""
        lanes = super().chunk(number)
        inside = self._inside(number, lanes)
        streams = (SecureStream(self._key, f"{purpose}/{number}") for purpose in ("noise", "ties"))
        np.add(inside, self._gaussian.draw(len(inside), *streams).astype(inside.dtype), out=inside)
        return lanes

    def _round_within_the_norm(self) -> int:
        """Fixes the rounding; how often it was drawn."""
        for draw in range(_MOST_DRAWS):
            self._round_by(self._rounding_key(draw))
            if self._norm_squared() <= self._most * (1 - _ROUNDING_ERROR):
                return draw + 1
        raise TrainingError("an update cannot be rounded within its norm", remedy="report this: it cannot happen")

    def _norm_squared(self) -> float:
        total = 0.0
        for number in range(self._plan.chunks):
            inside = self._inside(number, super().chunk(number))
            signed = inside.view(f"<i{inside.itemsize}").astype(np.float64)
            total += float(np.einsum("i,i->", signed, signed))
        return total

    def _inside(self, number: int, lanes: Lanes) -> Lanes:
        """The coordinates of a chunk, without the limbs behind them; a view."""
        start = number * self._plan.lane.lanes_per_chunk
        return lanes[: max(0, min(len(lanes), self._plan.dimensions - start))]

    def _rounding_key(self, draw: int) -> bytes:
        return derive(self._key, b"rounding", b"rounding", draw.to_bytes(4, "big"))
