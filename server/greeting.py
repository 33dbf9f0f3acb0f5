"""The greeting: every node is asked whether it takes the job; who does, and under which constants, is fixed here.

Weights, sampling rates, divisors and noise are public constants of the run from now on: nothing that a site reports
later changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privacy.dp import Plan
from privacy.errors import CloisterError, ProtocolError, QuorumError
from privacy.secagg import Roster
from protocol.job import Job, Weights
from protocol.messages import CONFIG, HELLO, PROTOCOL_VERSION, Order, Outcome, Refusal, Status, Terms
from protocol.secagg import ROSTER, least_sites, roster_record
from server.record import Drop, RunRecord
from server.rounds import NO_REPLY, Share

TOO_FEW_TO_HIDE = (
    "a sum over fewer sites hides none of them: more sites, or secagg.enabled = false if each site grants it"
)


def absent_node(node: int) -> Drop:
    """A node of which nobody knows more than that it has not answered."""
    return Drop(site=f"node {node}", code=Refusal.ABSENT, reason=NO_REPLY)


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The sites of a run: a share in the mean for each node whose site took the job."""

    shares: dict[int, Share]


def greet(
    grid: Grid,
    nodes: Iterable[int],
    *,
    run: str,
    job: Job,
    record: RunRecord,
    roster: Roster,
    timeout_s: float | None = None,
    absent: Callable[[int], Drop] = absent_node,
    missing: Iterable[Drop] = (),
) -> Cohort:
    """Ask every node; return the cohort. With secure aggregation the roster goes along, for the sites to compare.

    `absent`: what is known of a node that has not answered within `timeout_s` seconds. `missing`: sites that could not
    even be asked.

    Raises: QuorumError when fewer sites take the job than it needs; the record then holds every site's reasons.
    """
    order = Order(run=run, job=job.canonical(), round=0)
    content = RecordDict({CONFIG: order.record()})
    if job.secagg.enabled:
        content[ROSTER] = roster_record(roster)
    waiting = set(nodes)
    requests = [Message(content, dst_node_id=node, message_type=HELLO) for node in sorted(waiting)]
    terms: dict[int, Terms] = {}
    for reply in grid.send_and_receive(requests, timeout=timeout_s):
        node = reply.metadata.src_node_id
        if node not in waiting:
            continue
        waiting.discard(node)
        answer = _answer(reply, job, node)
        if isinstance(answer, Drop):
            record.decline(answer)
        else:
            terms[node] = answer
            record.greeted(answer)
    for node in sorted(waiting):
        record.decline(absent(node))
    for drop in missing:
        record.decline(drop)
    fewest = least_sites(job)
    if len(terms) < fewest:
        reasons = "; ".join(f"{drop.site}: {drop.code}: {drop.reason}" for drop in record.declined)
        raise QuorumError(
            "the greeting",
            expected=f"at least {fewest} sites that take the job",
            found=f"{len(terms)}" + (f" ({reasons[:1500]})" if reasons else ""),
            remedy=None if fewest == job.federation.min_sites else TOO_FEW_TO_HIDE,
        )
    return Cohort(shares=shares_of(terms, job.federation.weights))


def _answer(reply: Message, job: Job, node: int) -> Terms | Drop:
    if reply.has_error():
        return Drop(site=f"node {node}", code=Refusal.FAILED, reason=f"its host reported error {reply.error.code}")
    try:
        outcome = Outcome.of(reply.content)
        if outcome.status is Status.REFUSED:
            return Drop(site=outcome.site or f"node {node}", code=outcome.code, reason=outcome.reason)
        terms = Terms.of(reply.content)
        if terms.site != outcome.site:
            raise ProtocolError("a greeting", expected="one site", found="two names")
        _check_terms(terms, job)
    except CloisterError as error:
        return Drop(site=f"node {node}", code=Refusal.PROTOCOL, reason=str(error)[:500])
    return terms


def _check_terms(terms: Terms, job: Job) -> None:
    """A site may be stricter than the job, never laxer: what it promises must be what the job asks for."""
    if terms.protocol != PROTOCOL_VERSION:
        raise ProtocolError("a site's protocol", expected=str(PROTOCOL_VERSION), found=str(terms.protocol))
    if terms.steps_per_round != job.steps_per_round(terms.published_size):
        raise ProtocolError(
            f"site {terms.site}",
            expected=f"{job.steps_per_round(terms.published_size)} steps a round",
            found=str(terms.steps_per_round),
        )
    if job.privacy.enabled:
        _check_plan(terms, job)


def _check_plan(terms: Terms, job: Job) -> None:
    """The plan is the job's for the size that the site publishes, and its noise keeps the job's target."""
    if not terms.plan:
        raise ProtocolError(f"site {terms.site}", expected="a privacy plan, as the job asks", found="none")
    plan, size, asked = Plan.from_dict(terms.plan), terms.published_size, job.privacy
    of_the_job = replace(
        plan,
        unit=asked.unit,
        sampling_rate=job.sampling_rate(size),
        divisor=job.divisor(size),
        clip_norm=asked.clip,
        steps_per_round=job.steps_per_round(size),
        rounds=job.federation.rounds,
        spare_rounds=asked.spare_rounds,
        delta=asked.delta,
        target_epsilon=asked.epsilon,
        max_records_per_unit=asked.max_records_per_unit,
    )
    if plan != of_the_job:
        raise ProtocolError(f"site {terms.site}", expected="the privacy plan of the job", found="another one")
    plan.verify()


def shares_of(terms: dict[int, Terms], weights: Weights) -> dict[int, Share]:
    """The sites' parts in the mean, by node."""
    largest = max(each.published_size for each in terms.values())
    equal = weights is Weights.EQUAL
    return {
        node: Share(
            site=each.site,
            weight=1.0 if equal else each.published_size / largest,
            units=1 if equal else each.published_size,
        )
        for node, each in terms.items()
    }
