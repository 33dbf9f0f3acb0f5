"""The guard at the site: its policy and its privacy ledger, before any record is read.

A request that the policy does not grant, or that would cost more than is left, ends here with a refusal that says why.
An error below the guard becomes a refusal as well; what of it leaves the site is for `client.refusals` to say. The
ledger stands next to the training: whatever else refuses a round does so before it is charged.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod

from client import policy
from client.admission import check_admitted
from client.charging import AskedRound, Model, asked_model, charge
from client.joblog import note_refused, note_taken
from client.refusals import note_kept, told_of
from client.sealing import FindSite
from client.site import Site
from learning.base import Base
from learning.storage import disk_fault
from privacy.dp import Plan
from privacy.errors import CloisterError, ConfigError, ProtocolError, place_of
from protocol.job import Job, job_from_canonical
from protocol.messages import HELLO, TRAIN, Order, refused
from protocol.plans import base_of, privacy_plan

_LOG = logging.getLogger("cloister.site")


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A request that passed: order, job, base, the site's public size, and its privacy plan where there is one."""

    order: Order
    job: Job
    base: Base
    published_size: int
    plan: Plan | None

    def asked(self, plan: Plan, model: Model) -> AskedRound:
        """What is charged of a private round that begins with a model."""
        return AskedRound(order=self.order, job=self.job, base=self.base, plan=plan, model=model)


def guard_mod(find_site: FindSite) -> Mod:
    """A Flower mod between the sealing and the app."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        site = find_site(context)
        try:
            granted = grant(site, message)
            job, run, kind = granted.job, granted.order.run, message.metadata.message_type
            check_admitted(site, job, run, kind)
            if kind == TRAIN:
                note_taken(site, job, run)
            reply = call_next(message, context)
            if kind == HELLO:
                note_taken(site, job, run)  # the app may yet have refused it, for its roster
            return reply
        except CloisterError as error:
            _LOG.warning("refused: %s", error)
            return _refusal(site, message, error)
        except Exception as error:  # noqa: BLE001 (answered below; a foreign error's text may hold a record)
            _LOG.error("failed in %s", place_of(error))
            fault = disk_fault(error, "the site's disk") if isinstance(error, OSError) else None
            return _refusal(site, message, fault or error)

    return mod


def _refusal(site: Site, message: Message, error: Exception) -> Message:
    """The answer that says no. What of the reason does not leave is noted for the site's administrator."""
    code, told = told_of(site, error)
    note_kept(site, error)
    note_refused(site, message, code, told)
    return Message(refused(site.config.id, code, told), reply_to=message)


def ledger_mod(find_site: FindSite) -> Mod:
    """A Flower mod next to the app: a round's cost is on the ledger, on disk, before the training code is called."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if message.metadata.message_type == TRAIN:
            site = find_site(context)
            granted = grant(site, message)
            if granted.plan is not None:
                from client.training import refuse_unfit  # torch: only a round needs it

                refuse_unfit(granted)
                charge(site, granted.asked(granted.plan, asked_model(message)))
        return call_next(message, context)

    return mod


def grant(site: Site, message: Message) -> Granted:
    """Check a request against the site's policy.

    Raises: PolicyRefusal, ConfigError, ProtocolError or BudgetError; nothing was read or spent.
    """
    order = Order.of(message.content)
    job = job_from_canonical(order.job, "the job that was sent")
    if message.metadata.message_type == TRAIN and not 1 <= order.round <= job.federation.rounds:
        raise ProtocolError("a round", expected=f"1 to {job.federation.rounds}", found=str(order.round))
    base = base_of(job)
    policy.check(job, base, site.config)
    size = site.data_section.published_size
    plan = _frozen_plan(site, order, job, size) if job.privacy.enabled else None
    return Granted(order=order, job=job, base=base, published_size=size, plan=plan)


def _frozen_plan(site: Site, order: Order, job: Job, size: int) -> Plan:
    """The run's privacy plan: made once, then read; a run whose job or published size changes is refused."""
    state = site.run(order.run)
    stored = state.load("plan")
    key = {"job": job.digest(), "published_size": size}
    if stored is None:
        plan = privacy_plan(job, size)
        state.store("plan", {**key, "plan": plan.to_dict()})
        return plan
    values = stored.get("plan")
    if {name: stored.get(name) for name in key} != key or not isinstance(values, dict):
        raise ConfigError(
            f"run {order.run}", expected="the job that it began with", found="another one", remedy="start a new run"
        )
    return Plan.from_dict(values)
