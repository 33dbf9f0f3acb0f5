"""One attempt in memory over the real machines with real crypto; faults are what the tests do between its steps.

Every message crosses as bytes. `Attempt.restart_all` puts both ends through their stored bytes.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

import numpy as np

from privacy.sealing import Identity
from privacy.secagg import (
    Accumulator,
    Advert,
    Attestation,
    Attestations,
    Context,
    Contribution,
    Coordinator,
    Delivery,
    History,
    LaneWidth,
    Metric,
    Reveal,
    Roll,
    Roster,
    SecAggPlan,
    Session,
    Shares,
    Site,
    SiteFloors,
    Suite,
    Survivors,
    read_signed,
    smallest_threshold,
)
from privacy.secagg.signed import Signed

STEPS = ("advert", "shares", "input", "attestation", "reveal")


@functools.cache
def identity(number: int) -> Identity:
    return Identity.generate()


def names(n):
    return tuple(f"site-{number:03d}" for number in range(1, n + 1))


def make_plan(n=3, **changes):
    values = {
        "dimensions": 7,
        "clip": 1.0,
        "levels": 1 << 20,
        "clip_norm": 1e6,
        "weight_bound": 1024,
        "metrics": (Metric(name="loss", low=-8.0, high=1e6, step=0.125),),
        "threshold": smallest_threshold(n),
        "cohort": 3,
        "invited": names(n),
    }
    return SecAggPlan(**{**values, **changes})


def make_roster(n=3, epoch=1):
    return Roster(epoch, {name: identity(number).public() for number, name in enumerate(names(n), start=1)})


def make_session(n=3, *, plan=None, roster=None, run="run", round=1, attempt=1, model=b"model"):
    plan, roster = plan or make_plan(n), roster or make_roster(n)
    context = Context(
        suite=Suite.HYBRID_AES256CTR,
        run=run,
        round=round,
        attempt=attempt,
        roster_hash=roster.hash(),
        model_hash=hashlib.sha256(model).digest(),
        plan_hash=plan.hash(),
    )
    return Session(plan=plan, context=context, roster=roster)


def make_contribution(plan, index, *, seed=0):
    """A contribution whose quantising is exact, so that its integers are known without the code under test."""
    numbers, weight, cents = exact_parts(plan, index, seed)
    return Contribution(
        update=(numbers * (plan.clip / plan.levels)).astype(np.float32),
        weight=weight,
        release=hashlib.sha256(f"release {seed} {index}".encode()).digest(),
        metrics={metric.name: metric.low + cents * metric.step for metric in plan.metrics},
    )


def exact_parts(plan, index, seed=0):
    """Multiples of 4 that are coordinates times scale, a weight of 1, 1/2 or 1/4 of the bound, a metric in steps."""
    rng = np.random.default_rng([seed, index])
    numbers = 4 * rng.integers(-plan.levels // 4 + 1, plan.levels // 4, plan.dimensions)
    return numbers, plan.weight_bound >> int(rng.integers(3)), int(rng.integers(2**20))


def exact_vector(plan, index, seed=0):
    """The lanes of `make_contribution`, as signed integers."""
    numbers, weight, cents = exact_parts(plan, index, seed)
    bits = plan.lane.value // 2
    scalars = [weight, *(cents for _ in plan.metrics)]
    limbs = [(value // 2 ** (bits * place)) % 2**bits for value in scalars for place in range(48 // bits)]
    return [*(int(number) * weight // plan.weight_bound for number in numbers), *limbs]


class Attempt:
    """n sites and a coordinator; `dropped[step]` are the indices that stop answering before that step."""

    def __init__(self, session, *, histories=None, members=None, restart=False):
        self.session, self.restart = session, restart
        self.n = len(session.plan.invited)
        self.members = members or range(1, self.n + 1)
        self.coordinator, self.accumulator = Coordinator(session=session), Accumulator(session.plan)
        self.histories = histories or {index: History() for index in self.members}
        self.sites, self.sent = {}, {}
        self.chunks = {}

    # each step takes the indices that still answer

    def adverts(self, alive):
        for index in alive:
            site, history, signed = Site.begin(
                self.session, identity(index), floors=SiteFloors(), history=self.histories[index]
            )
            self.store(index, site, history)
            self.sent["advert", index] = read_signed(Advert, signed.to_bytes())
            self.coordinator = self.coordinator.receive_advert(self.sent["advert", index])
            self.restart_coordinator()
        self.coordinator, roll = self.coordinator.close_adverts()
        self.roll = Roll.from_bytes(roll.to_bytes())
        self.restart_coordinator()

    def shares(self, alive):
        for index in alive:
            site, shares = self.sites[index].share(self.roll)
            self.store(index, site)
            self.sent["shares", index] = Shares.from_bytes(shares.to_bytes())
            self.coordinator = self.coordinator.receive_shares(self.sent["shares", index])
            self.restart_coordinator()
        self.coordinator, deliveries = self.coordinator.close_shares()
        self.deliveries = {i: Delivery.from_bytes(item.to_bytes()) for i, item in deliveries.items()}
        self.restart_coordinator()

    def mask(self, index, contribution=None):
        contribution = contribution or make_contribution(self.session.plan, index)
        site, upload = self.sites[index].mask(self.deliveries[index], contribution)
        self.store(index, site)
        self.chunks[index] = list(upload)
        self.sent["input", index] = upload.seal()
        return self.chunks[index], self.sent["input", index]

    def inputs(self, alive):
        for index in alive:
            chunks, seal = self.mask(index)
            for chunk in chunks:
                self.coordinator.add_chunk(self.accumulator, index, chunk)
            self.coordinator = self.coordinator.receive_input(seal, self.accumulator)
            self.restart_coordinator()
        self.coordinator, sets = self.coordinator.close_inputs(self.accumulator)
        self.sets = Survivors.from_bytes(sets.to_bytes())
        self.restart_coordinator()

    def attestations(self, alive):
        for index in alive:
            site, history, signed = self.sites[index].attest(self.sets, self.histories[index])
            self.store(index, site, history)
            self.sent["attestation", index] = read_signed(Attestation, signed.to_bytes())
            self.coordinator = self.coordinator.receive_attestation(self.sent["attestation", index])
            self.restart_coordinator()
        self.coordinator, attestations = self.coordinator.close_attestations()
        self.attested = Attestations.from_bytes(attestations.to_bytes())
        self.restart_coordinator()

    def reveals(self, alive):
        for index in alive:
            site, reveal = self.sites[index].unmask(self.attested)
            self.store(index, site)
            self.sent["reveal", index] = read_signed(Reveal, reveal.to_bytes())
            self.coordinator = self.coordinator.receive_reveal(self.sent["reveal", index])
            self.restart_coordinator()

    def run(self, dropped=None, *, until="reveal"):
        """All steps up to `until`; a site that is dropped at a step is silent from then on."""
        alive = list(self.members)
        steps = (self.adverts, self.shares, self.inputs, self.attestations, self.reveals)
        for name, step in zip(STEPS, steps, strict=True):
            alive = [index for index in alive if index not in (dropped or {}).get(name, ())]
            step(alive)
            if name == until:
                break
        return self

    def finish(self):
        self.coordinator, unmasked = self.coordinator.finish(self.accumulator)
        return unmasked

    # storage

    def store(self, index, site, history=None):
        history = self.histories[index] if history is None else history
        if self.restart:
            site = Site.from_bytes(site.to_bytes(), self.session, identity(index))
            history = History.from_bytes(history.to_bytes())
        self.sites[index], self.histories[index] = site, history

    def restart_coordinator(self):
        if self.restart:
            self.coordinator = Coordinator.from_bytes(self.coordinator.to_bytes(), self.session)
            self.accumulator = Accumulator.from_bytes(self.accumulator.to_bytes(), self.session.plan)


def slow_sum(plan, indices, seed=0):
    """The sum of these sites' vectors, element by element in Python's integers, modulo 2^bits."""
    vectors = [exact_vector(plan, index, seed) for index in indices]
    return [sum(column) % 2**plan.lane.value for column in zip(*vectors, strict=True)]


def forged(signed, index, **changes):
    """A message with other fields, signed by the site itself: what a dishonest site can do."""
    return Signed.by(identity(index), replace(signed.message, **changes))


LANES = list(LaneWidth)
