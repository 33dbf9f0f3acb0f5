"""Secure aggregation as both ends compute it: from a job and public constants to the session of one attempt.

Its steps cross the wire under one kind of message; each carries the step's name, the attempt, and one message of
`privacy.secagg` in its own encoding (docs/secagg.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from privacy.content_hash import content_hash
from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import PublicIdentity
from privacy.secagg import Context, LaneWidth, Roster, SecAggPlan, Session, smallest_threshold
from privacy.secagg.fitting import Asked, fit
from privacy.secagg.plan import MAX_SITES, MIN_COHORT
from protocol.held import HeldArray, bytes_of
from protocol.job import Job
from protocol.payload import Arrays, held_array, shapes_of
from protocol.records import array_record, config_record

TURN, WORD, INPUT, ROSTER = "turn", "word", "input", "roster"


class Step(StrEnum):
    """The site's rounds after the training, R1 to R4, and BEGIN: R0 for an update that was trained before."""

    BEGIN = "begin"
    SHARE = "share"
    MASK = "mask"
    ATTEST = "attest"
    UNMASK = "unmask"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The sites that a run sums over, and their weights: whole numbers that stay the same over all rounds."""

    weights: Mapping[str, int]

    @property
    def weight_bound(self) -> int:
        return max(self.weights.values())

    def canonical(self) -> str:
        """The same text at both ends."""
        return json.dumps(dict(sorted(self.weights.items())))


def least_sites(job: Job) -> int:
    """Fewest sites whose updates make a round of this job."""
    return max(MIN_COHORT, job.federation.min_sites) if job.secagg.enabled else job.federation.min_sites


def secagg_plan(job: Job, cohort: Cohort, dimensions: int) -> SecAggPlan:
    """The plan of a run's sums, with its noise where the job asks for some.

    Raises: ConfigError when the job and the cohort do not make one.
    """
    settings, sites = job.secagg, len(cohort.weights)
    if not MIN_COHORT <= sites <= MAX_SITES:
        raise ConfigError(
            "secure aggregation",
            expected=f"{MIN_COHORT} to {MAX_SITES} sites",
            found=str(sites),
            remedy="more sites, or secagg.enabled = false, which each site must grant",
        )
    lane = LaneWidth(int(settings.lane_bits))
    room = 2 ** (lane.value - 1 - settings.headroom_bits) - 1
    plan = SecAggPlan(
        dimensions=dimensions,
        lane=lane,
        clip=settings.clip,
        levels=max(1, room // sites),
        clip_norm=settings.clip_norm,
        weight_bound=cohort.weight_bound,
        threshold=settings.threshold or smallest_threshold(sites),
        cohort=least_sites(job),
        invited=tuple(sorted(cohort.weights)),
    )
    return _noised(plan, job, room) if job.noise.enabled else plan


def _noised(plan: SecAggPlan, job: Job, room: int) -> SecAggPlan:
    """The plan with the job's noise, and with steps as fine as sum and noise leave room for."""
    clip = min(plan.clip, plan.clip_norm)  # no coordinate is longer than the whole update
    asked = Asked(
        dimensions=plan.dimensions,
        sites=len(plan.invited),
        quorum=plan.quorum,
        room=room,
        clip=clip,
        clip_norm=plan.clip_norm,
        honest_share=job.noise.honest_share,
        epsilon=job.noise.epsilon,
        delta=job.noise.delta,
        releases=job.federation.rounds + job.noise.spare_rounds,
    )
    levels, noise = fit(asked)
    return replace(plan, clip=clip, levels=levels, noise=noise)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One attempt at one round, by which both ends make the same session."""

    attempt: int
    cohort: Cohort

    def record(self) -> ConfigRecord:
        return ConfigRecord({"attempt": self.attempt, "cohort": self.cohort.canonical()})

    @classmethod
    def of(cls, content: RecordDict) -> Self:
        """Read a request's attempt. Raises: ProtocolError when it is missing or malformed."""
        record = config_record(content, TURN)
        try:
            if record is None:
                raise TypeError
            attempt, weights = record["attempt"], json.loads(str(record["cohort"]))
            if type(attempt) is not int:
                raise TypeError
            sound = (
                0 <= attempt < 2**32
                and isinstance(weights, dict)
                and bool(weights)
                and all(type(weight) is int and weight > 0 for weight in weights.values())
            )
            if not sound:
                raise TypeError
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ProtocolError("a masked round", expected="its attempt and its sites", found="others") from None
        return cls(attempt=attempt, cohort=Cohort(weights=weights))


def session_of(
    job: Job, run: str, round_number: int, turn: Turn, roster: Roster, digest: bytes, dimensions: int
) -> Session:
    """The session of an attempt. `digest`: `model_digest` of the round. Raises: ConfigError.

    The context holds every site's weight beside the model: sites that were told two things have no sum together.
    """
    plan = secagg_plan(job, turn.cohort, dimensions)
    context = Context(
        suite=plan.suite,
        run=run,
        round=round_number,
        attempt=turn.attempt,
        roster_hash=roster.hash(),
        model_hash=content_hash(digest + turn.cohort.canonical().encode()).digest(),
        plan_hash=plan.hash(),
    )
    return Session(plan=plan, context=context, roster=roster)


def model_digest(job: Job, model: Arrays) -> bytes:
    """BLAKE3 (32 bytes) over the job, its DP settings among it, and the round's first weights by name and shape."""
    digest = content_hash(b"cloister/v1/secagg/model\x00" + bytes.fromhex(job.digest()))
    for name, value in model.items():
        head = json.dumps([name, list(value.shape)]).encode()
        digest.update(len(head).to_bytes(8, "big") + head)
        digest.update(np.ascontiguousarray(value, dtype="<f4").reshape(-1).view(np.uint8).data)
    return digest.digest()


def dimensions_of(model: Arrays) -> int:
    """Coordinates of an update of this model."""
    return sum(map(math.prod, shapes_of(model).values()))


def flat(arrays: Arrays) -> NDArray[np.float32]:
    """Arrays as one vector, float32, (dimensions,), in their order."""
    return np.concatenate([np.asarray(value, dtype=np.float32).ravel() for value in arrays.values()])


def shaped(vector: NDArray[np.float32], model: Arrays) -> dict[str, NDArray[np.float32]]:
    """A vector as arrays with the names and shapes of the model; views into it."""
    out, at = {}, 0
    for name, value in model.items():
        out[name] = vector[at : at + value.size].reshape(value.shape)
        at += value.size
    return out


def word_record(data: bytes, lanes: NDArray[Any] | None = None) -> ArrayRecord:
    """One message of `privacy.secagg`, and the masked input where it is one."""
    arrays = {WORD: Array(np.frombuffer(data, dtype=np.uint8))}
    if lanes is not None:
        arrays[INPUT] = Array(lanes)
    return ArrayRecord(arrays)


def word_of(content: RecordDict) -> bytes:
    """The message of `privacy.secagg` in a message. Raises: ProtocolError when there is none."""
    return bytes(bytes_of(_held(content, WORD, "uint8").value))


def input_of(content: RecordDict, dtype: str) -> HeldArray:
    """The masked input in an answer, where it lies: (lanes,). Raises: ProtocolError for none of that dtype."""
    return _held(content, INPUT, dtype)


def _held(content: RecordDict, key: str, dtype: str) -> HeldArray:
    record = array_record(content, WORD)
    array = record.get(key) if record is not None else None
    held = held_array(key, array) if array is not None else None
    if held is None or len(held.shape) != 1 or held.dtype != str(np.dtype(dtype)):
        raise ProtocolError("a step of secure aggregation", expected=f"its {key}", found="none, or another one")
    return held


def step_record(step: Step) -> ConfigRecord:
    """Which step a request asks for."""
    return ConfigRecord({"step": step.value})


def step_of(content: RecordDict) -> Step:
    """The step that a request asks for. Raises: ProtocolError for none that is known."""
    record = config_record(content, "step")
    try:
        return Step(str(record["step"])) if record is not None else Step("")
    except (KeyError, ValueError):
        raise ProtocolError("a step of secure aggregation", expected=", ".join(Step), found="another") from None


def roster_record(roster: Roster) -> ConfigRecord:
    """The roster as the greeting carries it: a proposal, which a site compares with the one that it approved."""
    return ConfigRecord({"roster": roster_text(roster)})


def roster_in(content: RecordDict) -> Roster | None:
    """The roster that a greeting proposes, or None. Raises: ProtocolError when it is malformed."""
    record = config_record(content, ROSTER)
    if record is None:
        return None
    try:
        return parse_roster(str(record["roster"]))
    except (KeyError, ConfigError):
        raise ProtocolError("a greeting's roster", expected="its epoch, ids and public keys", found="others") from None


def roster_text(roster: Roster) -> str:
    """A roster as one line of JSON."""
    sites = {site: roster.sites[site].to_text() for site in sorted(roster.sites)}
    return json.dumps({"epoch": roster.epoch, "sites": sites}, separators=(",", ":"))


def parse_roster(text: str) -> Roster:
    """The roster that `roster_text` wrote. Raises: ConfigError for anything else."""
    try:
        values = json.loads(text)
        epoch, sites = values["epoch"], values["sites"]
        if type(epoch) is not int or not 0 <= epoch < 2**63 or not isinstance(sites, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError("a roster", expected="its epoch and its sites' public keys", found="others") from None
    return Roster(epoch, {site: PublicIdentity.from_text(str(key)) for site, key in sites.items()})
