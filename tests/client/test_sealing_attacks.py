"""Attacks on a site's requests. A request that is not the coordinator's next one to this site is never acted on.

Each test asserts that nothing of the site changed: no file of its folder, the ledger and the replay state among them.
"""

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from client.site import pin_coordinator
from privacy.errors import ProtocolError, SealError
from privacy.sealing import PREKEY_SUITE, Identity, announcement, peek_context, seal
from protocol.addressing import request_context
from protocol.messages import HELLO, OUTCOME, TRAIN, Order
from protocol.payload import decode_content, encode_content, unwrap_sealed, wrap_sealed
from tests.federation import RUN, Federation
from tests.memory_grid import Envelope, flipped
from tests.resting import everything_rests

SITE = "site-01"
PRIVATE = {"privacy": {"enabled": True, "epsilon": 6.0}, "federation": {"rounds": 3}}


@pytest.fixture(autouse=True, params=["opened at once", "at rest"])
def where_contents_lie(request, monkeypatch):
    if request.param == "at rest":
        everything_rests(monkeypatch)
    return request.param


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_base):
    """A federation after a private training: its sites have ledgers, plans and replay states."""
    federation = Federation(tmp_path_factory.mktemp("sites"), tiny_base, sites=2, job=PRIVATE)
    federation.run()
    assert len(federation.charges(SITE)) == 3
    assert not federation.grid.raised
    return federation


def last_request(federation, site=SITE):
    return federation.grid.request_of(federation.node(site), 3)


def refused(federation, envelope, error=SealError, site=SITE):
    """The site refuses the message, computes no answer and changes no file."""
    before = federation.files(site)
    with pytest.raises(error):
        federation.deliver(site, envelope)
    assert federation.files(site) == before


def like(envelope, data, kind=None):
    return Envelope(node=envelope.node, kind=kind or envelope.kind, content=wrap_sealed(data))


def sealed_by(federation, signer, *, run=RUN, round_number=9, sequence=99, site=SITE, kind=TRAIN):
    """A well-formed request for a round, signed by whoever asks for it."""
    context = request_context(run=run, round_number=round_number, site=site, sequence=sequence, kind=kind)
    order = Order(run=run, job=federation.job.canonical(), round=round_number)
    content = RecordDict({"arrays": ArrayRecord(), "config": order.record()})
    recipient = federation.site(site).run(RUN).unspent().public()[0]
    plain = [announcement([federation.secrets.prekey(context).public()]), *encode_content(content)]
    data = seal(plain, context=context, sender=signer, recipients=[recipient], suite=PREKEY_SUITE)
    return Envelope(node=federation.node(SITE), kind=kind, content=wrap_sealed(data))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0])
def test_a_changed_request_is_never_acted_on(trained, share):
    whole = last_request(trained)
    at = min(int(share * len(whole.sealed)), len(whole.sealed) - 1)
    refused(trained, like(whole, flipped(whole.sealed, at)), (SealError, ProtocolError))


@pytest.mark.parametrize("keep", [0, 1, 22, 100, -97, -96, -1])
def test_a_truncated_request_is_never_acted_on(trained, keep):
    refused(trained, like(last_request(trained), last_request(trained).sealed[:keep]))


def test_a_request_with_bytes_after_its_end_is_never_acted_on(trained):
    refused(trained, like(last_request(trained), last_request(trained).sealed + b"\x00"))


@pytest.mark.parametrize("nth", [0, 1, 2, 3])
def test_a_replayed_request_is_never_acted_on(trained, nth):
    refused(trained, trained.grid.request_of(trained.node(SITE), nth))


@pytest.mark.parametrize("nth", [1, 3])
def test_a_request_is_refused_after_a_restart_as_before(trained, nth):
    trained.restart()
    refused(trained, trained.grid.request_of(trained.node(SITE), nth))


def test_a_request_to_another_site_is_never_acted_on(trained):
    refused(trained, last_request(trained, "site-02"), ProtocolError)


def test_a_request_signed_by_another_key_than_the_coordinators_is_never_acted_on(trained):
    refused(trained, sealed_by(trained, Identity.generate()))


def test_a_request_signed_by_another_site_of_the_roster_is_never_acted_on(trained):
    refused(trained, sealed_by(trained, trained.site("site-02").identity))


def test_a_stale_round_is_never_acted_on(trained):
    refused(trained, sealed_by(trained, trained.identity, round_number=2, sequence=1_000))


def test_a_request_of_the_last_place_with_other_content_is_never_acted_on(trained):
    place = peek_context(last_request(trained).sealed)
    refused(trained, sealed_by(trained, trained.identity, round_number=place.round, sequence=place.sequence))


def test_a_coordinator_that_was_pinned_anew_is_the_only_one(trained):
    """Two coordinators cannot both command a site: the pin decides."""
    stranger = Identity.generate()
    pin = trained.home(SITE) / "keys" / "coordinator.pub"
    kept = pin.read_bytes()
    pin_coordinator(trained.home(SITE), stranger.public())
    refused(trained, sealed_by(trained, trained.identity))
    pin.write_bytes(kept)


def test_a_round_in_a_greetings_envelope_is_never_acted_on(trained):
    refused(trained, like(last_request(trained), last_request(trained).sealed, HELLO), ProtocolError)


def test_a_greeting_in_a_rounds_envelope_is_never_acted_on(trained):
    greeting = trained.grid.request_of(trained.node(SITE), 0)
    refused(trained, like(greeting, greeting.sealed, TRAIN), ProtocolError)


@pytest.mark.parametrize("kind", ["evaluate", "query", "query.other", "train.other"])
def test_a_kind_that_the_app_does_not_have_is_refused_by_flower_though_the_coordinator_signed_it(trained, kind):
    refused(trained, like(last_request(trained), last_request(trained).sealed, kind), ValueError)
    refused(trained, sealed_by(trained, trained.identity, kind=kind), ValueError)


@pytest.mark.parametrize("kind", [HELLO, TRAIN])
def test_an_unsealed_request_is_never_acted_on(trained, kind):
    order = Order(run=RUN, job=trained.job.canonical(), round=1)
    for content in (
        RecordDict({"config": order.record()}),
        RecordDict({"arrays": trained.first_model_record(), "config": order.record()}),
        RecordDict(),
    ):
        refused(trained, Envelope(node=trained.node(SITE), kind=kind, content=content), ProtocolError)


def test_something_in_the_clear_beside_a_sealed_request_is_refused(trained):
    content = RecordDict({**dict(last_request(trained).content), "more": ConfigRecord({"k": 1})})
    refused(trained, Envelope(node=trained.node(SITE), kind=TRAIN, content=content), ProtocolError)


def test_an_array_that_only_says_that_it_is_sealed_is_refused(trained):
    fake = Array(dtype="uint8", shape=(4,), stype="cloister.sealed.v1", data=b"\x00\x01\x02\x03")
    content = RecordDict({"sealed": ArrayRecord({"sealed": fake})})
    refused(trained, Envelope(node=trained.node(SITE), kind=TRAIN, content=content))


def test_what_a_site_answers_is_sealed_signed_and_in_the_place_of_the_request(trained):
    """Positive control of this file: the untouched next request is acted on."""
    reply = trained.grid.reply_of(trained.node(SITE), 3)
    asked, answered = peek_context(last_request(trained).sealed), peek_context(reply.sealed)
    assert (answered.run, answered.round, answered.sequence) == (asked.run, asked.round, asked.sequence)
    assert answered.site == SITE
    assert len(reply.content) == 1


def test_a_fresh_well_signed_request_past_the_last_round_opens_and_is_refused_by_the_guard(trained, where_contents_lie):
    """The seal says who asks, not what may be asked: the guard refuses, charges nothing, and its answer is sealed."""
    before = trained.charges(SITE)
    number = 10 if where_contents_lie == "at rest" else 9  # a place in a run is taken once
    reply = trained.deliver(SITE, sealed_by(trained, trained.identity, round_number=number))
    assert isinstance(reply, Message)
    opened = trained.open_reply(SITE, unwrap_sealed(reply.content))
    assert decode_content(opened)[OUTCOME]["code"] == "protocol"
    assert trained.charges(SITE) == before
