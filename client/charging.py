"""What a private round costs and what it draws from: one charge on the ledger, and one key that this charge paid for.

The charge is on disk first, then the release is begun (`client.release`), then records are read, then the release is
bound to them; only then is anything drawn. A crash between two of these leaves a charge without a release, and the
round is charged again: never too little.

Where sums carry noise each masked input is charged as well, for the site as a whole, before it leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from client.budget import limit_of, site_limit_of
from client.ledger import Accepted, Ledger
from client.release import OpenRelease, arrays_digest, examples_digest
from client.site import Site, open_site
from learning.base import Base
from privacy.dp import (
    Attempt,
    Charge,
    Plan,
    Release,
    Request,
    SharedNoise,
    charge_for,
    charge_release,
    charge_round,
    check_release,
    site_epsilon,
)
from privacy.dp.chain import Finding
from privacy.errors import BudgetError, ConfigError
from protocol.job import Job
from protocol.messages import ARRAYS, Order, SpentOnSums
from protocol.payload import record_arrays
from protocol.records import array_record

_LOG = logging.getLogger("cloister.site")
Model = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class AskedRound:
    """A round that was granted, with its privacy plan and the model that it begins with (the tuned arrays by name)."""

    order: Order
    job: Job
    base: Base
    plan: Plan
    model: Model


def charge(site: Site, asked: AskedRound) -> None:
    """Write a round's cost to the ledger, unless it asks once more for the release that is open: the same round of the
    same run, job and plan, from the same model. That one is paid for, and is computed again to the same bytes.

    Raises: BudgetError when it is more than is left; nothing is written then.
    """
    request = _request(site, asked)
    with _paying(site) as (ledger, opened):
        _paid_release(site, asked, request, ledger, opened)


def claim(site: Site, asked: AskedRound, examples: object) -> Release:
    """The release that is paid for, bound to its examples, on disk before anything is drawn from its key.

    Where the one that is open was bound to other examples, or there is none, the round is charged first and its key is
    a fresh one. Raises: as `charge`.
    """
    request, data = _request(site, asked), examples_digest(examples)
    with _paying(site) as (ledger, opened):
        release = _paid_release(site, asked, request, ledger, opened)
        if release.data not in ("", data):
            opened.forget()
            release = _paid_release(site, asked, request, ledger, opened)
        release = release.bound_to(data)
        opened.keep(release)
    return release


@dataclass(frozen=True, kw_only=True)
class AskedSum:
    """One masked input: which attempt of which round of which run, and the noise of the sum it goes into."""

    order: Order
    job: Job
    noise: SharedNoise
    attempt: int


def check_sum(site: Site, asked: AskedSum) -> None:
    """Raises: BudgetError where `charge_sum` would refuse, before anything is trained for it; nothing is charged."""
    check_release(site.ledger(), asked.noise, attempt=_place(site, asked), limit=site_limit_of(site.config))


def charge_sum(site: Site, asked: AskedSum) -> None:
    """Write one masked input to the ledger, for the site as a whole, on disk before it leaves.

    The same attempt is charged once: its input is made again to the same bytes. Another attempt has noise of its own,
    and is charged for itself. Raises: BudgetError when it is more than is left; nothing is written then.
    """
    ledger = site.ledger()
    with ledger.locked():
        charge_release(ledger, asked.noise, attempt=_place(site, asked), limit=site_limit_of(site.config))


def spent_on_sums(site: Site, order: Order, delta: float) -> SpentOnSums:
    """What this run has cost the site as a whole until now, from its ledger."""
    charges = [c for c in site.ledger().charges() if c.run_id == order.run and c.whole_site]
    return SpentOnSums(releases=len(charges), epsilon=site_epsilon(charges, site.config.accept.data, delta))


def _place(site: Site, asked: AskedSum) -> Attempt:
    return Attempt(
        dataset_id=site.config.accept.data,
        job_id=asked.job.digest(),
        run_id=asked.order.run,
        round=asked.order.round,
        attempt=asked.attempt,
    )


def asked_model(message: Message) -> Model:
    """The model that a round begins with; empty where the request has none, which is charged all the same."""
    record = array_record(message.content, ARRAYS)
    return record_arrays(record) if record is not None else {}


@contextmanager
def _paying(site: Site) -> Iterator[tuple[Ledger, OpenRelease]]:
    ledger, opened = site.ledger(), site.release()
    with ledger.locked(), opened.locked():
        yield ledger, opened


def _request(site: Site, asked: AskedRound) -> Request:
    return Request(
        data_set=site.config.accept.data,
        run=asked.order.run,
        round=asked.order.round,
        job=asked.job.digest(),
        base=asked.base.sha256,
        plan=asked.plan.digest(),
        model=arrays_digest(asked.model),
    )


def _paid_release(site: Site, asked: AskedRound, request: Request, ledger: Ledger, opened: OpenRelease) -> Release:
    """The open release where it is what is asked for and its charge stands; else the round is charged, then begun."""
    charges = ledger.charges()
    release = opened.read()
    if release is not None and not release.is_paid(charges):
        ledger.refuse_beside(_unpaid(release))
    if release is not None and release.answers(request):
        return release
    of_run = [c for c in charges if c.run_id == request.run and not c.whole_site]
    _tell_of_a_gap(request, max((c.round for c in of_run), default=0))
    attempt = _attempt_at(request, len([c for c in of_run if c.round == request.round]))
    charge_round(ledger, asked.plan, attempt=attempt, limit=limit_of(site.config))
    release = Release.begin(request, attempt.attempt)
    opened.keep(release)
    return release


def _attempt_at(request: Request, number: int) -> Attempt:
    return Attempt(
        dataset_id=request.data_set,
        job_id=request.job,
        run_id=request.run,
        round=request.round,
        attempt=number,
    )


def _unpaid(release: Release) -> str:
    """What an open release without its charge tells: the charge was written first, so only a loss explains none."""
    return Finding.UNPAID.text(release.request.round, release.request.run)


def accept_loss(home: Path) -> Accepted:
    """Go on with a ledger that is not whole, or that lacks the charge of the open release. That charge counts, where
    its run's plan is there.

    A release whose charge nobody knows any more is over: its secret goes, last of all, so that an acceptance which was
    cut short before is made again. Raises: as `Ledger.accept_loss`.
    """
    ledger = Ledger.of_site(home)
    try:
        site = open_site(home)
    except ConfigError:  # the keys are locked, or gone: the release stays unread, and unpaid where it is
        return ledger.accept_loss()
    opened = site.release()
    release = opened.read()
    if release is None or _is_paid(release, ledger):
        return ledger.accept_loss()
    known = _charge_of(site, release)
    accepted = ledger.accept_loss(() if known is None else (known,), beside=_unpaid(release))
    if not release.is_paid(ledger.charges()):
        opened.over(release.request.run, release.request.round)
    return accepted


def _is_paid(release: Release, ledger: Ledger) -> bool:
    """Whether a ledger that is whole holds the charge of a release."""
    with suppress(BudgetError):
        return release.is_paid(ledger.charges())
    return False


def _charge_of(site: Site, release: Release) -> Charge | None:
    """The charge that paid for a release, from the plan of its run; None where that is gone, damaged or another."""
    asked = release.request
    with suppress(ConfigError):
        values = (site.run(asked.run).load("plan") or {}).get("plan")
        plan = Plan.from_dict(values if isinstance(values, dict) else {})
        if plan.digest() == asked.plan:
            return charge_for(plan, _attempt_at(asked, release.attempt))
    return None


def _tell_of_a_gap(request: Request, known: int) -> None:
    """Leave a word in the log where rounds are missing: the one sign of a ledger set back with its head and witness."""
    if request.round > known + 1:
        _LOG.warning(
            "round %d of run %s is asked for, and the ledger knows rounds up to %d: either this site missed those in "
            "between, or its ledger was set back with its head",
            request.round,
            request.run,
            known,
        )
