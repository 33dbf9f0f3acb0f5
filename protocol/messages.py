"""The messages between coordinator and site, typed; inside they are Flower's records.

A run has two kinds: the greeting (`query.hello`), in which a site answers whether it takes the job and under which
public constants, and the training of one round (`train`). Every answer carries an outcome; a refusal has a code and a
reason that is safe to show.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from flwr.app import ConfigRecord, MetricRecord, RecordDict

from privacy.errors import CloisterError, ProtocolError
from protocol.records import config_record, metric_record

PROTOCOL_VERSION = 1
HELLO = "query.hello"
SECAGG = "query.secagg"
TRAIN = "train"
ARRAYS, CONFIG, METRICS, OUTCOME = "arrays", "config", "metrics", "outcome"
WEIGHT = "weight"
ROUND = "server-round"


class Status(StrEnum):
    DONE = "done"
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why a site's work does not count. The value is what a report shows."""

    POLICY = "policy"
    BUDGET = "budget"
    DATA = "data"
    SEAL = "seal"
    PROTOCOL = "protocol"
    CONFIG = "config"
    FAILED = "failed"
    ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a request at a site: done, or refused with a code and a reason."""

    site: str
    status: Status
    code: str = ""
    reason: str = ""

    def record(self) -> ConfigRecord:
        return ConfigRecord({key: str(value) for key, value in asdict(self).items()})

    @classmethod
    def of(cls, content: RecordDict) -> Self:
        """Read the outcome of an answer. Raises: ProtocolError when it has none."""
        record = config_record(content, OUTCOME)
        if record is None or set(record) != {field.name for field in fields(cls)}:
            raise ProtocolError("an answer", expected="an outcome", found="none")
        values = {key: str(value) for key, value in record.items()}
        if values["status"] not in set(Status):
            raise ProtocolError("an outcome's status", expected="done or refused", found="another word")
        status = Status(values.pop("status"))
        if status is Status.REFUSED and values["code"] not in set(Refusal):
            raise ProtocolError("a refusal's code", expected="one of the protocol", found="another word")
        return cls(status=status, **{key: _shown(text) for key, text in values.items()})


def _shown(text: str) -> str:
    """What the other side wrote, fit for a terminal: printable characters, 500 at most."""
    return "".join(character for character in text[:500] if character.isprintable())


def refused(site: str, code: Refusal, reason: str) -> RecordDict:
    """An answer that says no."""
    return RecordDict({OUTCOME: Outcome(site=site, status=Status.REFUSED, code=code, reason=reason).record()})


def refusal_code(error: CloisterError) -> Refusal:
    """The refusal that an error stands for, by its type."""
    from privacy import errors

    by_type: dict[type[CloisterError], Refusal] = {
        errors.PolicyRefusal: Refusal.POLICY,
        errors.BudgetError: Refusal.BUDGET,
        errors.DataError: Refusal.DATA,
        errors.DiskError: Refusal.DATA,  # final, as a budget's: the site's disk is not mended within a round
        errors.SealError: Refusal.SEAL,
        errors.ProtocolError: Refusal.PROTOCOL,
        errors.ConfigError: Refusal.CONFIG,
    }
    known = (by_type[kind] for kind in type(error).__mro__ if kind in by_type)
    return next(known, Refusal.FAILED)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a site says when it takes a job: public constants of the whole run, fixed before its first round.

    `published_size` is rounded by hand when the data set is added and never counted in a run. With privacy the DP
    plan stands beside it, as `Plan.to_dict` writes it; without, it is empty.
    """

    site: str
    protocol: int
    published_size: int
    steps_per_round: int
    anonymised: bool
    profile: str
    plan: dict[str, Any]

    def record(self) -> ConfigRecord:
        return ConfigRecord({"terms": json.dumps(asdict(self), sort_keys=True)})

    @classmethod
    def of(cls, content: RecordDict) -> Self:
        """Read the terms in a site's greeting. Raises: ProtocolError when they are malformed."""
        record = config_record(content, CONFIG)
        try:
            values = json.loads(str(record["terms"])) if record is not None else None
            if not isinstance(values, dict):
                raise TypeError
            terms = cls(**values)
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ProtocolError("a greeting", expected="the site's terms", found="something else") from None
        if not (isinstance(terms.site, str) and type(terms.anonymised) is bool and isinstance(terms.profile, str)):
            raise ProtocolError("a greeting's terms", expected="names, and whether texts are hidden", found="others")
        numbers = (terms.published_size, terms.steps_per_round, terms.protocol)
        if any(type(number) is not int or number < 1 for number in numbers) or not isinstance(terms.plan, dict):
            raise ProtocolError("a greeting's terms", expected="whole numbers above 0", found="others")
        return terms


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a request names beside its arrays: the run, the job in canonical JSON, and the round (0: greeting)."""

    run: str
    job: str
    round: int
    protocol: int = PROTOCOL_VERSION

    def record(self) -> ConfigRecord:
        return ConfigRecord({"run": self.run, "job": self.job, ROUND: self.round, "protocol": self.protocol})

    @classmethod
    def of(cls, content: RecordDict) -> Self:
        """Read a request's order. Raises: ProtocolError when a key is missing or of the wrong type."""
        record = config_record(content, CONFIG)
        if record is None:
            raise ProtocolError("a request", expected="its config", found="none")
        run, job, number, protocol = (record.get(key) for key in ("run", "job", ROUND, "protocol"))
        if not (isinstance(run, str) and isinstance(job, str) and type(number) is int and type(protocol) is int):
            raise ProtocolError("a request's config", expected="run, job, round and protocol", found="others")
        if protocol != PROTOCOL_VERSION:
            raise ProtocolError("the protocol", expected=f"version {PROTOCOL_VERSION}", found=f"version {protocol}")
        if not (0 <= number <= 1_000_000 and 1 <= len(run) <= 128):
            raise ProtocolError("a request's config", expected="a round and a run's name", found="others")
        return cls(run=run, job=job, round=number)


def training_metrics(*, rounds_taken: int, epsilon: float, delta: float, steps: int) -> MetricRecord:
    """What leaves a site beside its update: constants of the plan and its spending, nothing of its records."""
    return MetricRecord({"rounds_taken": rounds_taken, "epsilon": epsilon, "delta": delta, "steps": steps})


@dataclass(frozen=True, kw_only=True)
class SpentOnSums:
    """What a site's masked inputs have cost it as a whole in this run: how many left, and the local epsilon of them.

    Both are functions of the plan and the ledger; they travel with a masked input where sums carry noise.
    """

    releases: int
    epsilon: float

    def record(self) -> MetricRecord:
        return MetricRecord({"releases": self.releases, "site_epsilon": self.epsilon})

    @classmethod
    def of(cls, content: RecordDict) -> Self:
        """Read it from an answer. Raises: ProtocolError when it is missing or malformed."""
        record = metric_record(content, METRICS)
        releases, epsilon = (record.get(name) if record is not None else None for name in ("releases", "site_epsilon"))
        sound = type(releases) is int and 1 <= releases < 1 << 32 and isinstance(epsilon, float)
        if not sound or not 0 <= epsilon < math.inf:  # type: ignore[operator]
            raise ProtocolError("a masked input with noise", expected="what it has cost the site", found="none")
        return cls(releases=releases, epsilon=epsilon)  # type: ignore[arg-type]
