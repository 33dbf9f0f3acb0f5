"""Whoever has recorded all bytes and gets both ends' identities and disks later opens greetings and nothing else.

Positive controls: with the keys of the time the same bytes open.
"""

import base64
import re
import shutil

import numpy as np
import pytest

from privacy.sealing import Identity, Prekey, answer_prekey, peek_context
from protocol.addressing import EVERY_SITE, request_context
from protocol.messages import HELLO
from server.prekeys import SECRET_FILE
from tests.light_federation import RUN, LightFederation, opens, recipient_of
from tests.secagg.masked import masked


def stolen(federation, site):
    """Every private key on one site's disk: its identity, and the prekeys under its own secret."""
    opened = federation.site(site)
    return [opened.identity, *opened.run(RUN).unspent().keys]


def stolen_from_coordinator(federation, recorded):
    """Every private key on the coordinator's disk: its identity, and the answers' prekeys that its secret leads to."""
    path, keys = federation.work / SECRET_FILE, [federation.identity]
    if path.exists():
        for each in recorded:
            keys.append(answer_prekey(path.read_bytes()[-32:], request_of(each.sealed)))
    return keys


def request_of(sealed):
    """The place of the request that a message is, or answers."""
    place = peek_context(sealed)
    site = EVERY_SITE if place.content_type == HELLO else place.site
    return request_context(
        run=place.run, round_number=place.round, site=site, sequence=place.sequence, kind=place.content_type
    )


def readable(federation, requests, replies, keys):
    """The rounds and ways of all recorded messages that open with one of these keys."""
    found = set()
    for way, messages in (("request", requests), ("reply", replies)):
        for each in messages:
            site = federation.names[each.node]
            sender = federation.identity.public() if way == "request" else federation.roster[site]
            if any(opens(each.sealed, key, sender) for key in keys):
                found.add((way, each.round))
    return found


def all_keys(federation):
    recorded = [*federation.grid.requests, *federation.grid.replies]
    sites = [key for site in federation.roster for key in stolen(federation, site)]
    return [*sites, *stolen_from_coordinator(federation, recorded)]


def test_after_a_run_nothing_of_it_opens_but_the_greeting(tmp_path):
    federation = LightFederation(tmp_path)
    kept = remember(federation)
    federation.run(3)
    requests, replies = federation.grid.requests, federation.grid.replies
    assert len(requests) == len(replies) == 2 * 4
    assert readable(federation, requests, replies, all_keys(federation)) == {("request", 0)}
    then = readable(federation, requests, replies, kept)
    assert then == {(way, number) for way in ("request", "reply") for number in range(4)}


def remember(federation):
    """Collects every private key that either end has for a moment."""
    kept = []
    for node, app in list(federation.grid.apps.items()):

        def noting(message, context, app=app, site=federation.names[node]):
            kept.extend(stolen(federation, site))
            kept.extend(stolen_from_coordinator(federation, federation.grid.requests[-1:]))
            return app(message, context)

        federation.grid.apps[node] = noting
    return kept


def test_during_a_round_nothing_of_an_earlier_one_opens_nor_the_request_that_a_site_is_at_work_on(tmp_path):
    federation, seen = LightFederation(tmp_path), []
    for site in federation.roster:
        app = federation._app(site)

        def work(message, context, app=app, site=site):
            reply = app(message, context)
            mine = [each for each in federation.grid.requests if federation.names[each.node] == site]
            theirs = [each for each in federation.grid.replies if federation.names[each.node] == site]
            keys = [*stolen(federation, site), *stolen_from_coordinator(federation, theirs)]
            seen.append((mine[-1].round, readable(federation, mine, theirs, keys)))
            return reply

        federation.grid.apps[federation.node(site)] = work
    federation.run(3)
    assert [number for number, _ in seen] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(found == {("request", 0)} for _, found in seen)


def test_a_masked_run_leaves_nothing_that_opens_it_at_either_end(tmp_path, tiny_base):
    """The product's own layers, from greeting to unmasking: five requests a round, each to a prekey of its own."""
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 2}})
    federation.run()
    federation.restart_coordinator()
    requests, replies = federation.grid.requests, federation.grid.replies
    assert len(requests) == len(replies) == 3 * (1 + 2 * 5)
    after = [each for each in requests if each.kind != HELLO]
    to = [recipient_of(each.sealed) for each in [*after, *replies]]
    identities = {public.id() for public in [*federation.roster.values(), federation.identity.public()]}
    assert len({recipient_of(each.sealed) for each in after}) == len(after) and not identities & set(to)
    keys = [key for site in federation.roster for key in stolen(federation, site)] + [federation.identity]
    for each in after:
        assert not any(opens(each.sealed, key, federation.identity.public()) for key in keys)
        assert federation.open_request(federation.names[each.node], each.sealed)
    for each in replies:
        site = federation.names[each.node]
        assert not any(opens(each.sealed, key, federation.roster[site]) for key in keys)
        assert federation.open_reply(site, each.sealed)


def test_no_prekey_that_was_used_lies_anywhere_on_a_sites_disk(tmp_path):
    """Looked for as bytes, in hex and in base 64, past the product's own reader; what is kept is encrypted there."""
    federation = LightFederation(tmp_path)
    kept = remember(federation)
    federation.run(2)
    used = [key for key in kept if isinstance(key, Prekey)]
    assert len(used) > 8
    disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for key in used:
        for part in (key.to_bytes()[:64], key.to_bytes()[64:]):
            assert not any(form in disk for form in (part, part.hex().encode(), base64.b64encode(part)))


def test_a_copy_of_a_sites_state_without_its_keys_opens_nothing(tmp_path):
    federation = LightFederation(tmp_path)
    federation.run(1)
    other = LightFederation(tmp_path_of(tmp_path))
    shutil.rmtree(other.home("site-01") / "state")
    shutil.copytree(federation.home("site-01") / "state", other.home("site-01") / "state")
    with pytest.raises(Exception, match="damaged"):
        other.site("site-01").run(RUN).unspent()


def tmp_path_of(folder):
    made = folder / "other"
    made.mkdir()
    return made


# Lost private halves.


def test_a_site_that_has_lost_its_state_is_asked_again_in_the_same_round_and_the_operator_is_told(tmp_path):
    federation = LightFederation(tmp_path)

    def lose(number):
        if number == 1:
            shutil.rmtree(federation.home("site-01") / "state" / "runs")

    federation.after_round = lose
    federation.run(3)
    assert not any(entry.dropped for entry in federation.record.rounds)
    assert set(federation.calls.values()) == {1}
    (line,) = federation.told
    assert re.match(r"site-01 has lost its prekeys \(was its state restored\?\)", line)
    asked = [each.round for each in federation.grid.requests if each.node == federation.node("site-01")]
    assert asked == [0, 1, 2, 2, 3]
    readers = readable(federation, federation.grid.requests, federation.grid.replies, all_keys(federation))
    assert readers == {("request", 0), ("reply", 2)}  # what it said of its loss: public keys


def test_a_site_whose_state_is_that_of_a_backup_goes_on(tmp_path):
    federation, copy = LightFederation(tmp_path), tmp_path / "copy"

    def act(number):
        runs = federation.home("site-02") / "state" / "runs"
        if number == 1:
            shutil.copytree(runs, copy)
        if number == 3:
            shutil.rmtree(runs)
            shutil.copytree(copy, runs)

    federation.after_round = act
    federation.run(4)
    assert not any(entry.dropped for entry in federation.record.rounds)
    assert set(federation.calls.values()) == {1} and len(federation.told) == 1


def test_all_sites_may_lose_their_state_at_once(tmp_path):
    federation = LightFederation(tmp_path, sites=4)

    def lose(number):
        if number == 1:
            for site in federation.roster:
                shutil.rmtree(federation.home(site) / "state" / "runs")

    federation.after_round = lose
    federation.run(2)
    assert not any(entry.dropped for entry in federation.record.rounds)
    assert set(federation.calls.values()) == {1} and len(federation.told) == 4


def test_a_masked_run_goes_on_with_a_site_that_has_lost_its_prekeys(tmp_path, tiny_base):
    federation = masked(tmp_path, tiny_base, job={"federation": {"rounds": 2}})
    kept = {}

    def hosted(app, node):
        def answer(message, context):
            replay = next(iter(federation.home(federation.names[node]).rglob("replay")), None)
            if message.metadata.message_type == "train" and replay is not None:
                kept.setdefault(node, replay.read_bytes())
                if len(federation.record.rounds) == 2 and node not in lost:
                    lost.add(node)
                    replay.write_bytes(kept[node])  # that of before the first round
            return app(message, context)

        return answer

    lost = set()
    for node, app in list(federation.grid.apps.items()):
        federation.grid.apps[node] = hosted(app, node)
    federation.run()
    assert len(lost) == 3
    assert [sorted(entry.participants) for entry in federation.record.rounds] == [sorted(federation.roster)] * 2
    assert [entry.attempts for entry in federation.record.rounds] == [1, 1]


def test_a_site_that_loses_its_prekeys_at_every_request_is_left_out_by_name(tmp_path):
    federation = LightFederation(tmp_path)
    federation.run(1)
    app = federation.grid.apps[federation.node("site-01")]

    def forgetful(message, context):
        assert len(federation.grid.requests) < 10
        shutil.rmtree(federation.home("site-01") / "state" / "runs")
        return app(message, context)

    federation.grid.apps[federation.node("site-01")] = forgetful
    federation.restart()
    model = federation.run(2)
    (drop,) = federation.record.rounds[1].dropped
    assert (drop.site, drop.code) == ("site-01", "seal") and "prekeys" in drop.reason
    assert np.isfinite(model).all() and ("site-01", 2) not in federation.calls


def test_identities_made_later_open_nothing_either(tmp_path):
    federation = LightFederation(tmp_path)
    federation.run(1)
    keys = [Identity.generate(), Prekey.generate()]
    assert readable(federation, federation.grid.requests, federation.grid.replies, keys) == set()
