"""The site's Flower ClientApp: greeting and training, inside ledger, secure aggregation, guard and sealing."""

from __future__ import annotations

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.guard import Granted, grant, guard_mod, ledger_mod
from client.policy import effective_profile
from client.roster import consider
from client.sealing import FindSite, sealing_mod
from client.secagg import answer_step, secagg_mod
from client.site import Site
from privacy.dp import joint_epsilon
from privacy.errors import ProtocolError
from protocol.job import NO_PROFILE
from protocol.messages import (
    ARRAYS,
    CONFIG,
    HELLO,
    METRICS,
    OUTCOME,
    PROTOCOL_VERSION,
    SECAGG,
    Outcome,
    Status,
    Terms,
    training_metrics,
)
from protocol.payload import Arrays, arrays_record, record_arrays
from protocol.records import array_record
from protocol.secagg import roster_in


def make_client_app(find_site: FindSite) -> ClientApp:
    """The app of a site. `find_site` opens the site that a Flower context belongs to."""
    app = ClientApp(mods=[sealing_mod(find_site), guard_mod(find_site), secagg_mod(find_site), ledger_mod(find_site)])

    @app.query(HELLO.split(".")[1])
    def hello(message: Message, context: Context) -> Message:
        site = find_site(context)
        granted = grant(site, message)
        if granted.job.secagg.enabled:
            consider(site, roster_in(message.content))
        return _answer(message, site, {CONFIG: _terms(site, granted).record()})

    @app.query(SECAGG.split(".")[1])
    def secagg(message: Message, context: Context) -> Message:
        return answer_step(find_site(context), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site = find_site(context)
        granted = grant(site, message)
        from client.training import train_update  # torch: seconds of import, which the other messages need not wait for

        update = train_update(site, granted, _model_of(message))
        content = {ARRAYS: arrays_record(update), METRICS: _spent(site, granted)}
        return _answer(message, site, content)

    return app


def _model_of(message: Message) -> Arrays:
    record = array_record(message.content, ARRAYS)
    if record is None:
        raise ProtocolError("a round", expected="the model", found="none")
    return record_arrays(record)


def _terms(site: Site, granted: Granted) -> Terms:
    profile = effective_profile(granted.job, site.config) or NO_PROFILE
    return Terms(
        site=site.config.id,
        protocol=PROTOCOL_VERSION,
        published_size=granted.published_size,
        steps_per_round=granted.job.steps_per_round(granted.published_size),
        anonymised=profile != NO_PROFILE,
        profile=profile,
        plan=dict(granted.plan.to_dict()) if granted.plan is not None else {},
    )


def _spent(site: Site, granted: Granted):  # type: ignore[no-untyped-def]
    """What this run has cost the site so far, from its ledger."""
    if granted.plan is None:
        return training_metrics(rounds_taken=granted.order.round, epsilon=0.0, delta=0.0, steps=0)
    charges = [c for c in site.ledger().charges() if c.run_id == granted.order.run and not c.whole_site]
    return training_metrics(
        rounds_taken=len(charges),
        epsilon=joint_epsilon(charges, site.config.accept.data, granted.plan.delta),
        delta=granted.plan.delta,
        steps=sum(c.steps for c in charges),
    )


def _answer(message: Message, site: Site, records: dict[str, object]) -> Message:
    outcome = Outcome(site=site.config.id, status=Status.DONE).record()
    return Message(RecordDict({**records, OUTCOME: outcome}), reply_to=message)  # type: ignore[dict-item]
