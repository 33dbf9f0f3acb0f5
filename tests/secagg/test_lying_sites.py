"""Sites that lie to an honest coordinator: it names them and sums the others, or it yields no mean at all."""

from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3

from privacy.errors import ProtocolError
from privacy.secagg import InputSeal, Reveal, Signed, read_signed, shamir
from protocol.secagg import WORD, input_of, word_of, word_record
from server.record import EventKind, RunRecord
from tests.resting import everything_rests
from tests.secagg.masked import Kept, Script, lost, masked, mean_of, off_by, size_of, vector

LIAR = "site-02"
STEPS = {"train": 1, "share": 2, "mask": 3, "attest": 4, "unmask": 5}
LATE = ("attest", "unmask")


@pytest.fixture(autouse=True, params=["opened at once", "at rest"])
def where_contents_lie(request, monkeypatch):
    if request.param == "at rest":
        everything_rests(monkeypatch)


def four(tmp_path, base, **secagg):
    job = {"federation": {"rounds": 1}, "secagg": {"attempts": 1, **secagg}}
    federation = masked(tmp_path, base, sites=4, job=job, sizes=True)
    federation.events = []
    federation.record = RunRecord(federation.events.append)
    federation.grid.reorder(102, 101, 103, 104)  # the liar's answer is there first
    return federation


def named(federation):
    """Who was dropped, in the order in which it was told, with the reasons."""
    return [(event.site, event.text) for event in federation.events if event.kind is EventKind.DROPPED]


def assert_the_others_are_summed(federation, step, match):
    """The liar is named; what it said before counts where it was whole, and the mean is that of those in the record."""
    kept = Kept(federation)
    before, after = map(vector, federation.run().models)
    ((site, text),) = named(federation)
    assert site == LIAR
    assert text.startswith("protocol: ")
    assert match in text
    entry, units = federation.record.rounds[0], size_of(federation)
    survivors = [name for name in units if name != LIAR or step in LATE]
    assert entry.participants == survivors
    plain = mean_of({name: kept[name][0] for name in survivors}, units)
    assert np.abs(after - before - plain).max() <= off_by(4, units) * 2


def masked_otherwise(federation, change=None, **fields):
    """The liar's masked input with other lanes or another seal, signed by itself."""
    me = federation.site(LIAR).identity

    def said(content):
        seal, lanes = read_signed(InputSeal, word_of(content)).message, input_of(content, "<u4").numpy()
        if change is not None:
            lanes = change(lanes)
        seal = replace(seal, **{"digest": blake3(lanes.tobytes()).digest(), **fields})
        content[WORD] = word_record(Signed.by(me, seal).to_bytes(), lanes)
        return content

    federation.dishonest(LIAR, STEPS["mask"], said)


def raised(by, at):
    """Lanes of which one is `by` larger, modulo 2^32."""

    def change(lanes):
        lanes[at] += np.uint32(by)
        return lanes

    return change


def no_mean(federation, match):
    with pytest.raises(ProtocolError, match=match):
        federation.run()
    assert len(federation.trained.models) == 1
    assert federation.record.rounds[0].participants == []


@pytest.mark.parametrize("by", [1, 7, 2**32 - 1])
def test_another_weight_than_the_sites_constant_spoils_the_round(tmp_path, tiny_base, by):
    """One more, seven more, one less: the mean would be divided by a weight that nobody agreed to."""
    federation = four(tmp_path, tiny_base)
    masked_otherwise(federation, raised(by, -3))  # the weight's lowest limb of three
    no_mean(federation, "the weight of a sum|larger than the plan's sites can add up to")


def test_a_vector_longer_than_the_bound_spoils_the_round(tmp_path, tiny_base):
    federation = four(tmp_path, tiny_base, clip_norm=1.0)
    masked_otherwise(federation, raised(2**30, 0))
    no_mean(federation, "the mean of the updates; expected a norm up to 1")


def test_a_lane_beyond_what_the_sites_can_add_up_to_spoils_the_round(tmp_path, tiny_base):
    """With one of four sites lost the sum has room to spare, and a lane in that room is nobody's."""
    federation = four(tmp_path, tiny_base, clip_norm=1e6)
    Script(federation).at(1, "mask", "site-04", lost)
    masked_otherwise(federation, raised(2**31 - 1, 0))
    no_mean(federation, "larger than the plan's sites can add up to")


def test_a_vector_within_the_bound_is_the_sites_own_business(tmp_path, tiny_base):
    """Positive control: the honest input, sealed anew by the same hand, is summed."""
    federation = four(tmp_path, tiny_base)
    masked_otherwise(federation)
    federation.run()
    assert federation.record.rounds[0].participants == list(federation.roster)


FALSE_SEALS = {
    "other sharers": ({"sharers": (1, 2, 3)}, "other sharers"),
    "another size": ({"lanes": 5}, "of another size"),
    "another digest": ({"digest": bytes(32)}, "sealed other chunks"),
    "another context": ({"context": bytes(32)}, "another context"),
    "another site's": ({"sender": 1}, "the site's own word"),
}


@pytest.mark.parametrize("lie", FALSE_SEALS)
def test_an_input_under_a_false_seal_is_taken_out_of_the_sum_and_its_site_named(tmp_path, tiny_base, lie):
    federation = four(tmp_path, tiny_base)
    fields, match = FALSE_SEALS[lie]
    masked_otherwise(federation, **fields)
    assert_the_others_are_summed(federation, "mask", match)


FALSE_LANES = {
    "a lane short": (lambda lanes: lanes[:-1], "not the next one of the plan"),
    "a lane more": (lambda lanes: np.append(lanes, lanes[:1]), "not the next one of the plan"),
    "none": (lambda lanes: lanes[:0], "not the next one of the plan"),
    "half as wide": (lambda lanes: lanes.astype("<u2"), "expected its input"),
    "signed": (lambda lanes: lanes.view("<i4"), "expected its input"),
    "a table": (lambda lanes: lanes.reshape(1, -1), "expected its input"),
}


@pytest.mark.parametrize("lie", FALSE_LANES)
def test_a_masked_input_of_another_form_is_not_added_and_its_site_named(tmp_path, tiny_base, lie):
    federation = four(tmp_path, tiny_base)
    change, match = FALSE_LANES[lie]
    masked_otherwise(federation, change)
    assert_the_others_are_summed(federation, "mask", match)


@pytest.mark.parametrize("step", STEPS)
def test_the_word_of_another_site_is_not_taken_from_this_one(tmp_path, tiny_base, step):
    """Sealed and signed by site 2, but inside it is what site 1 said; site 1's own word still counts."""
    federation, nth = four(tmp_path, tiny_base), STEPS[step]

    def stolen(content):
        theirs = federation.opened(federation.grid.reply_of(federation.node("site-01"), nth))
        content[WORD] = theirs[WORD]
        return content

    federation.dishonest(LIAR, nth, stolen)
    assert_the_others_are_summed(federation, step, "the site's own word")


BROKEN_WORDS = [
    ("train", "no word"),
    ("train", "nothing"),
    ("share", "cut"),
    ("mask", "no word"),
    ("mask", "cut"),
    ("attest", "nothing"),
    ("unmask", "cut"),
]


@pytest.mark.parametrize(("step", "lie"), BROKEN_WORDS)
def test_a_malformed_word_is_not_taken_and_its_site_named(tmp_path, tiny_base, step, lie):
    federation = four(tmp_path, tiny_base)

    def broken(content):
        word = {"cut": word_of(content)[:-1], "nothing": b""}.get(lie)
        del content[WORD]
        if word is not None:
            content[WORD] = word_record(word)
        return content

    federation.dishonest(LIAR, STEPS[step], broken)
    assert_the_others_are_summed(federation, step, "expected its word" if lie == "no word" else "malformed")


def test_a_share_that_its_owner_did_not_deal_is_not_used_and_its_holder_named(tmp_path, tiny_base):
    federation = four(tmp_path, tiny_base)
    me = federation.site(LIAR).identity

    def forged(content):
        reveal = read_signed(Reveal, word_of(content)).message
        (owner, share), *rest = reveal.b_shares
        changed = replace(reveal, b_shares=((owner, share[:-1] + bytes([share[-1] ^ 1])), *rest))
        content[WORD] = word_record(Signed.by(me, changed).to_bytes())
        return content

    federation.dishonest(LIAR, STEPS["unmask"], forged)
    assert_the_others_are_summed(federation, "unmask", "revealed a share that site-01 did not deal")


def test_a_dealer_of_nonsense_is_named_left_out_and_the_round_attempted_without_it(tmp_path, tiny_base, monkeypatch):
    """Its shares of b give no secret that it committed to, which shows only when the masks come off."""
    job = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 8}}
    federation = masked(
        tmp_path, tiny_base, sites=4, job={**job, "federation": {"rounds": 1}, "secagg": {"attempts": 2}}, sizes=True
    )
    split = shamir.split

    def dealt(secret, threshold, points):
        shares = split(secret, threshold, points)
        return {point: bytes(33) for point in shares} if federation.site_now == LIAR else shares

    monkeypatch.setattr(shamir, "split", dealt)
    kept = Kept(federation)
    before, after = map(vector, federation.run().models)
    (entry,), units = federation.record.rounds, size_of(federation)
    honest = [site for site in units if site != LIAR]
    assert entry.attempts == 2
    assert sorted(entry.participants) == honest
    assert [(drop.site, drop.code) for drop in entry.dropped] == [(LIAR, "protocol")]
    assert "do not give the secret" in entry.dropped[0].reason
    assert [len(kept[site]) for site in units] == [2, 1, 2, 2]  # what may be out is trained, and charged, again
    plain = mean_of({site: kept[site][1] for site in honest}, units)
    assert np.abs(after - before - plain).max() <= off_by(4, units) * 2
