"""The place of each message in a run, as both ends compute it."""

import pytest

from privacy.errors import ProtocolError
from privacy.sealing import Direction
from protocol.addressing import EVERY_SITE, answer_context, check_request, request_context
from protocol.messages import HELLO, TRAIN


def request(site="site-01", kind=TRAIN, round_number=3):
    return request_context(run="r", round_number=round_number, site=site, sequence=9, kind=kind)


def test_a_request_for_this_site_passes():
    check_request(request(), "site-01", TRAIN)
    check_request(request(EVERY_SITE, HELLO, 0), "site-01", HELLO)


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        (request("site-02"), TRAIN),
        (request(EVERY_SITE), TRAIN),
        (request("site-01", HELLO), HELLO),
        (answer_context(request(), "site-01"), TRAIN),
        (request(), HELLO),
        (request(EVERY_SITE, HELLO), TRAIN),
        (request(kind="evaluate"), "evaluate"),
        (request(kind="query.other"), "query.other"),
    ],
    ids=[
        "to-another-site",
        "a-round-to-all",
        "a-greeting-to-one",
        "an-answer-sent-back",
        "a-round-in-a-greetings-envelope",
        "a-greeting-in-a-rounds-envelope",
        "an-unknown-kind",
        "another-query",
    ],
)
def test_a_request_that_is_not_for_this_site_or_not_what_it_says_is_refused(context, kind):
    with pytest.raises(ProtocolError):
        check_request(context, "site-01", kind)


def test_an_answer_has_the_place_of_its_request_in_the_other_direction():
    asked = request(EVERY_SITE, HELLO, 0)
    answer = answer_context(asked, "site-02")
    assert answer.direction is Direction.UP
    assert asked.direction is Direction.DOWN
    assert answer.differences(asked) == ["site", "direction"]
