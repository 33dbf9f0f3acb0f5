"""A coordinator that asks real sites for whatever a test likes, step by step, well sealed and signed.

Where it does not lie it works with the product's own pure machine. A refusal is checked with all that must not change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from flwr.app import RecordDict

from privacy.secagg import (
    Accumulator,
    Advert,
    Attestation,
    Attestations,
    Coordinator,
    InputSeal,
    Reveal,
    Shares,
    Signed,
    Survivors,
    read_signed,
)
from privacy.secagg import Site as Machine
from protocol.messages import ARRAYS, SECAGG, TRAIN, Order, Outcome, Status
from protocol.payload import arrays_record
from protocol.secagg import TURN, WORD, Cohort, Step, Turn, input_of, model_digest, session_of, step_record, word_of
from protocol.secagg import word_record as word_of_bytes
from tests.federation import RUN, Federation
from tests.secagg.masked import disk, run_folder


class Liar:
    """One run of a federation that has been greeted. Round numbers are used up: `attempt` takes the next one."""

    def __init__(self, federation: Federation, run: str = RUN):
        self.federation, self.run, self.number = federation, run, 0
        self.shares = federation.greet(run=run).shares
        self.weights = {share.site: share.units for share in self.shares.values()}
        self.model, self.job = federation.first_model(), federation.job

    # single requests; the answer as it comes out of the sealing

    def order(self, number=None, job=None):
        return Order(run=self.run, job=(job or self.job).canonical(), round=self.number if number is None else number)

    def train(self, site, *, attempt=0, weights=None, model=None, job=None, number=None) -> RecordDict:
        turn = Turn(attempt=attempt, cohort=Cohort(weights=weights or self.weights))
        records = {ARRAYS: arrays_record(model or self.model), TURN: turn.record()}
        return self.federation.ask(site, TRAIN, self.order(number, job), records).content

    def begin(self, site, *, attempt, weights=None, number=None) -> RecordDict:
        turn = Turn(attempt=attempt, cohort=Cohort(weights=weights or self.weights))
        return self.ask(site, Step.BEGIN, {TURN: turn.record()}, number=number)

    def step(self, site, step, word: bytes, *, number=None) -> RecordDict:
        return self.ask(site, step, {WORD: word_of_bytes(word)}, number=number)

    def ask(self, site, step, records: Mapping, *, number=None) -> RecordDict:
        records = {"step": step_record(step), **records}
        return self.federation.ask(site, SECAGG, self.order(number), records).content

    # rounds

    def attempt(self, until="train", **changes) -> Attempt:
        """The next round, honestly, up to and with a step."""
        self.number += 1
        return Attempt(self, self.number, **changes).to(until)

    def machine_of(self, site, attempt: Attempt) -> Machine:
        """What is in the site's secret file: a test may look, a coordinator may not."""
        data = (run_folder(self.federation, site, self.run) / "secagg.machine").read_bytes()
        return Machine.from_bytes(data, attempt.session, self.federation.site(site).identity)


class Attempt:
    """An honest attempt over real sites, which can be left at any step."""

    def __init__(self, liar: Liar, number: int, *, attempt=0, sites=None, again=False):
        self.liar, self.number, self.turn = liar, number, Turn(attempt=attempt, cohort=Cohort(weights=liar.weights))
        federation, model = liar.federation, liar.model
        digest, size = model_digest(liar.job, model), sum(value.size for value in model.values())
        self.session = session_of(liar.job, liar.run, number, self.turn, federation.sites(), digest, size)
        self.coordinator, self.accumulator = Coordinator(session=self.session), Accumulator(self.session.plan)
        self.sites, self.again = list(sites or liar.weights), again
        self.index = {site: self.session.plan.index_of(site) for site in liar.weights}
        self.inputs: dict[str, np.ndarray] = {}
        self.words: dict[tuple[str, str], bytes] = {}

    def to(self, until: str, *, without=()) -> Attempt:
        """Go on up to a step; sites in `without` are not asked for it."""
        for step in ("train", "share", "mask", "attest", "unmask"):
            if (step, "done") not in self.words:
                getattr(self, step)([site for site in self.sites if step != until or site not in without])
                self.words[step, "done"] = b""
            if step == until:
                break
        return self

    def word(self, site, step, answer: RecordDict) -> bytes:
        outcome = Outcome.of(answer)
        assert outcome.status is Status.DONE, outcome.reason
        self.words[step, site] = word_of(answer)
        return self.words[step, site]

    def train(self, sites):
        for site in sites:
            ask = self.liar.begin if self.again else self.liar.train
            answer = ask(site, attempt=self.turn.attempt, number=self.number)
            self.coordinator = self.coordinator.receive_advert(read_signed(Advert, self.word(site, "train", answer)))
        self.coordinator, self.roll = self.coordinator.close_adverts()

    def share(self, sites):
        for site in sites:
            word = self.word(site, "share", self.ask(site, Step.SHARE, self.roll.to_bytes()))
            self.coordinator = self.coordinator.receive_shares(Shares.from_bytes(word))
        self.coordinator, deliveries = self.coordinator.close_shares()
        self.deliveries = {site: deliveries[self.index[site]] for site in sites}

    def mask(self, sites):
        for site in sites:
            answer = self.ask(site, Step.MASK, self.deliveries[site].to_bytes())
            seal = read_signed(InputSeal, self.word(site, "mask", answer))
            self.inputs[site] = input_of(answer, self.session.plan.lane.dtype).value
            self.coordinator.add_chunk(self.accumulator, self.index[site], self.inputs[site].tobytes())
            self.coordinator = self.coordinator.receive_input(seal, self.accumulator)
        self.coordinator, self.sets = self.coordinator.close_inputs(self.accumulator)
        self.sites = list(sites)

    def attest(self, sites):
        for site in sites:
            signed = read_signed(
                Attestation, self.word(site, "attest", self.ask(site, Step.ATTEST, self.sets.to_bytes()))
            )
            self.coordinator = self.coordinator.receive_attestation(signed)
        self.coordinator, self.attested = self.coordinator.close_attestations()

    def unmask(self, sites):
        for site in sites:
            signed = read_signed(
                Reveal, self.word(site, "unmask", self.ask(site, Step.UNMASK, self.attested.to_bytes()))
            )
            self.coordinator = self.coordinator.receive_reveal(signed)

    def ask(self, site, step, word):
        return self.liar.step(site, step, word, number=self.number)

    # what a liar needs

    def signed(self, site, message):
        """What a site that helps the liar signs."""
        return Signed.by(self.liar.federation.site(site).identity, message)

    def advert(self, site) -> Signed[Advert]:
        return read_signed(Advert, self.words["train", site])

    def sets_of(self, *survivors, sharers=None):
        return Survivors(
            sharers=tuple(sorted(self.index[site] for site in sharers or self.sites)),
            survivors=tuple(sorted(self.index[site] for site in survivors)),
        )

    def attestations(self, sets, *honest_sites, **forgers):
        """Attestations as the sites sent them, and of sites that sign whatever the liar likes."""
        signed = [read_signed(Attestation, self.words["attest", site]) for site in honest_sites]
        for site in forgers.get("forged", ()):
            message = Attestation(context=self.session.ctx, sender=self.index[site], sets=sets)
            signed.append(self.signed(site, message))
        return Attestations(tuple(sorted(signed, key=lambda each: each.message.sender)))

    def refused(self, site, step, word, *, match, code="protocol"):
        """The site says no to this word, names what is wrong, and is as it was."""
        refuses(self.liar.federation, site, lambda: self.ask(site, step, word), match=match, code=code)


def refuses(federation, site, ask, *, match, code="protocol"):
    """A request is refused with a code and a reason; files, ledger and history are as they were."""
    before, charged = disk(federation, site), list(federation.charges(site))
    outcome = Outcome.of(ask())
    assert (outcome.status, outcome.code) == (Status.REFUSED, code), outcome
    assert re.search(match, outcome.reason), outcome.reason
    assert disk(federation, site) == before
    assert list(federation.charges(site)) == charged


def resigned(attempt, site, **changes):
    """The site's own advert with other fields, signed by the site: it helps the liar."""
    return attempt.signed(site, replace(attempt.advert(site).message, **changes))
