"""Downgrades and substitutions: an identity opens greetings alone, and nobody else's prekey is ever used."""

import io

import pytest
from flwr.app import Message, RecordDict

from client.sealing import key_for
from privacy.errors import SealError
from privacy.sealing import (
    PREKEY_COMMON_SUITE,
    PREKEY_SUITE,
    RENEWAL_SUITE,
    Identity,
    Prekey,
    SuiteId,
    announcement,
    open_message,
    peek_context,
    peek_header,
    seal,
    seal_body,
    seal_naming,
)
from protocol.addressing import answer_context, request_context
from protocol.messages import ARRAYS, CONFIG, HELLO, OUTCOME, TRAIN, Order, Outcome, Status
from protocol.payload import arrays_record, encode_content, unwrap_sealed, wrap_sealed
from tests.light_federation import RUN, LightFederation, recipient_of
from tests.memory_grid import Way

SITE, OTHER = "site-01", "site-02"
OLD = SuiteId.HYBRID_AES256GCM_BLAKE3
ANSWER = Prekey.generate()
TOLD = (ANSWER.public(),)


@pytest.fixture
def federation(tmp_path):
    made = LightFederation(tmp_path)
    made.run(1)
    return made


def files(federation, site=SITE):
    home = federation.home(site)
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


def place(number=2, sequence=99, kind=TRAIN, run=RUN):
    return request_context(run=run, round_number=number, site=SITE, sequence=sequence, kind=kind)


def content():
    return encode_content(RecordDict({ARRAYS: arrays_record({}), CONFIG: Order(run=RUN, job="{}", round=2).record()}))


def request(federation, to, *, told=TOLD, suite=PREKEY_SUITE, where=None, signer=None):
    head = [announcement(told)] if suite.announces else []
    ends = {"context": where or place(), "sender": signer or federation.identity}
    return seal([*head, *content()], **ends, recipients=list(to), suite=suite)


def deliver(federation, sealed, kind=TRAIN):
    return federation.grid.deliver(federation.node(SITE), kind, wrap_sealed(sealed))


def refused(federation, sealed, match, kind=TRAIN):
    before, calls = files(federation), dict(federation.calls)
    with pytest.raises(SealError, match=match):
        deliver(federation, sealed, kind)
    assert files(federation) == before and federation.calls == calls


def renewed(federation, sealed):
    """The site opens nothing and does nothing; it answers with prekeys alone."""
    calls = dict(federation.calls)
    answer = unwrap_sealed(deliver(federation, sealed).content)
    assert federation.calls == calls
    asked = peek_context(sealed)
    opened = open_message(
        io.BytesIO(answer),
        len(answer),
        context=answer_context(asked, SITE),
        sender=federation.roster[SITE],
        recipient=federation.identity,
    )
    assert opened.suite is RENEWAL_SUITE and bytes(opened.own) == b""
    assert opened.prekeys == federation.site(SITE).run(asked.run).unspent().public()
    return opened


def unspent(federation, site=SITE, run=RUN):
    return federation.site(site).run(run).unspent().public()


# What a site is asked.


def test_a_request_wrapped_to_the_identity_is_refused_though_the_coordinator_signed_it(federation):
    refused(federation, request(federation, [federation.roster[SITE]]), "wrapped to the site's identity")


def test_a_request_wrapped_to_the_identity_is_refused_before_any_prekey_was_announced_too(tmp_path):
    fresh = LightFederation(tmp_path)
    refused(fresh, request(fresh, [fresh.roster[SITE]]), "wrapped to the site's identity")
    assert not list((fresh.home(SITE) / "state").glob("runs/*"))


def test_a_request_wrapped_to_identity_and_prekey_is_refused(federation):
    refused(federation, request(federation, [federation.roster[SITE], unspent(federation)[0]]), "one recipient")


@pytest.mark.parametrize("to", ["identity", "prekey"])
@pytest.mark.parametrize("kind", [TRAIN, HELLO])
def test_a_coordinator_of_an_earlier_release_is_refused_by_the_name_of_its_suite(federation, to, kind):
    recipient = federation.roster[SITE] if to == "identity" else unspent(federation)[0]
    where = request_context(run=RUN, round_number=2, site=SITE if kind == TRAIN else "*", sequence=99, kind=kind)
    refused(
        federation,
        request(federation, [recipient], suite=OLD, where=where),
        "expected a suite with prekeys.*0x0002",
        kind,
    )


def test_a_request_that_says_only_prekeys_is_refused(federation):
    sealed = seal(
        announcement([ANSWER.public()]),
        context=place(),
        sender=federation.identity,
        recipients=[unspent(federation)[0]],
        suite=RENEWAL_SUITE,
    )
    refused(federation, sealed, "a suite with prekeys")


def test_a_request_must_announce_one_prekey_for_its_answer(federation):
    told = (ANSWER.public(), Prekey.generate().public())
    refused(federation, request(federation, [unspent(federation)[0]], told=told), "one prekey for its answer")


def test_a_request_to_a_prekey_that_another_signed_is_refused(federation):
    for to in (unspent(federation)[0], Prekey.generate().public()):
        refused(federation, request(federation, [to], signer=Identity.generate()), "another sender")
        refused(federation, request(federation, [to], signer=federation.site(OTHER).identity), "another sender")


def test_a_request_to_an_unknown_prekey_with_a_forged_signature_is_refused(federation):
    sealed = bytearray(request(federation, [Prekey.generate().public()]))
    sealed[-1] ^= 1
    refused(federation, bytes(sealed), "signature")


def test_a_request_to_an_unknown_prekey_in_an_old_place_is_refused(federation):
    to = [Prekey.generate().public()]
    refused(federation, request(federation, to, where=place(number=0, sequence=1)), "twice or too late")
    first = request(federation, to)
    renewed(federation, first)
    refused(federation, first, "answered before")


PREKEYS = {
    "of another site": lambda f: unspent(f, OTHER)[0],
    "of nobody": lambda f: Prekey.generate().public(),
    "of another run": lambda f: _other_run(f),
    "that was used": lambda f: _used(f),
}


def _other_run(federation):
    state = federation.site(SITE).run("run-2")
    state.admit(place(0, 1, HELLO, "run-2"), bytes(32), b"")
    return unspent(federation, run="run-2")[0]


def _used(federation):
    first = unspent(federation)[0]
    deliver(federation, request(federation, [first], where=place(sequence=90)))
    return first


@pytest.mark.parametrize("name", PREKEYS)
def test_a_request_to_a_prekey_that_is_not_this_sites_in_this_run_opens_nothing_and_is_answered_with_new_ones(
    federation, name
):
    to = PREKEYS[name](federation)
    before = set(unspent(federation))
    opened = renewed(federation, request(federation, [to]))
    assert not before & set(opened.prekeys)


def test_a_request_with_a_common_body_to_a_lost_prekey_is_answered_with_new_ones(federation):
    out = io.BytesIO()
    body = seal_body([b"x" * 70_000], out)
    sealed = seal_naming(
        body,
        content(),
        context=place(),
        sender=federation.identity,
        recipients=[Prekey.generate().public()],
        announced=[ANSWER.public()],
    )
    assert peek_header(io.BytesIO(sealed)).suite is PREKEY_COMMON_SUITE
    renewed(federation, sealed + out.getvalue())


def test_a_look_at_a_request_uses_no_prekey_up(federation):
    """As the daemon's gate looks, while a job waits for its approval."""
    first = unspent(federation)[0]
    header = peek_header(io.BytesIO(request(federation, [first])))
    before = files(federation)
    opener = key_for(federation.site(SITE), place(), header)
    assert opener is not None and opener.public() == first and files(federation) == before


# What a site answers.


def answer(federation, sealed, to, *, suite=PREKEY_SUITE, signer=None, told=None):
    """Another answer in the place of one of the site's."""
    said = RecordDict({OUTCOME: Outcome(site=SITE, status=Status.DONE).record()})
    plain = [announcement(told or [Prekey.generate().public()])] if suite.announces else []
    own = [] if suite is RENEWAL_SUITE else encode_content(said)
    signer = signer or federation.site(SITE).identity
    ends = {"context": peek_context(sealed), "sender": signer, "recipients": [to]}
    return wrap_sealed(seal([*plain, *own], **ends, suite=suite))


FORGERIES = {
    "to the coordinator's identity": lambda f, s: answer(f, s, f.identity.public()),
    "in an old suite to the identity": lambda f, s: answer(f, s, f.identity.public(), suite=OLD),
    "in an old suite to the prekey": lambda f, s: answer(f, s, _to(f, s), suite=OLD),
    "by a stranger": lambda f, s: answer(f, s, _to(f, s), signer=Identity.generate()),
    "by another site": lambda f, s: answer(f, s, _to(f, s), signer=f.site(OTHER).identity),
    "new prekeys by a stranger": lambda f, s: answer(
        f, s, f.identity.public(), suite=RENEWAL_SUITE, signer=Identity.generate()
    ),
    "new prekeys to the prekey": lambda f, s: answer(f, s, _to(f, s), suite=RENEWAL_SUITE),
    "an earlier one replayed": lambda f, s: f.grid.reply_of(f.node(SITE), 1).content,
    "another site's": lambda f, s: f.grid.reply_of(f.node(OTHER), 1).content,
}


def _to(federation, sealed):
    """The prekey that the coordinator announced for an answer."""
    asked = peek_context(sealed)
    where = request_context(
        run=RUN, round_number=asked.round, site=SITE, sequence=asked.sequence, kind=asked.content_type
    )
    return federation.sealed._secrets.prekey(where).public()


@pytest.mark.parametrize("name", FORGERIES)
def test_an_answer_that_is_not_the_sites_own_to_this_request_announces_nothing(tmp_path, name):
    """The site is out of the round, and asked in the next one under a prekey that it did announce."""
    federation = LightFederation(tmp_path)
    known = set()
    noted(federation, known)
    federation.grid.change(
        Way.REPLY, federation.node(SITE), 2, lambda said: FORGERIES[name](federation, unwrap_sealed(said))
    )
    federation.run(3)
    dropped = [{drop.site: drop.code for drop in entry.dropped} for entry in federation.record.rounds]
    assert dropped == [{}, {SITE: "seal"}, {}]
    asked = [each for each in federation.grid.requests if each.node == federation.node(SITE) and each.round]
    assert {recipient_of(each.sealed) for each in asked} <= known
    assert not federation.told


def noted(federation, known):
    """Collects the ids of all prekeys that the site has ever announced."""
    node = federation.node(SITE)
    app = federation.grid.apps[node]

    def noting(message, context):
        reply = app(message, context)
        known.update(prekey.id() for prekey in unspent(federation))
        return reply

    federation.grid.apps[node] = noting


def test_new_prekeys_in_answer_to_a_greeting_are_no_answer(tmp_path):
    federation = LightFederation(tmp_path)
    federation.grid.change(
        Way.REPLY,
        federation.node(SITE),
        0,
        lambda said: answer(federation, unwrap_sealed(said), federation.identity.public(), suite=RENEWAL_SUITE),
    )
    content = RecordDict({CONFIG: Order(run=RUN, job="{}", round=0).record()})
    greetings = [Message(content, dst_node_id=node, message_type=HELLO) for node in federation.names]
    found = [Outcome.of(reply.content) for reply in federation.sealed.send_and_receive(greetings)]
    assert sorted((each.site, each.status, each.code) for each in found) == [
        ("", Status.REFUSED, "seal"), (OTHER, Status.DONE, ""),
    ]  # fmt: skip
    assert len(federation.grid.requests) == 2


def test_every_request_and_answer_after_the_greeting_is_wrapped_to_a_prekey_of_its_own(tmp_path):
    federation = LightFederation(tmp_path)
    federation.run(3)
    identities = {federation.identity.public().id(), *(public.id() for public in federation.roster.values())}
    after = [each for each in federation.grid.requests if each.round] + federation.grid.replies[2:]
    to = [recipient_of(each.sealed) for each in after]
    assert len(set(to)) == len(to) == 2 * 3 * 2 and not identities & set(to)
    greeting_answers = {recipient_of(each.sealed) for each in federation.grid.replies[:2]}
    assert len(greeting_answers) == 1 and not identities & greeting_answers
