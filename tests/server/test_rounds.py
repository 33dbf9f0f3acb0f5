"""Answers of one round of sending, from a host that says more than it was asked for."""

import pytest
from flwr.app import Message, RecordDict

from protocol.link.flower import become_coordinator
from protocol.messages import OUTCOME, TRAIN, Outcome, Status
from server.record import RunRecord
from server.rounds import Share, answers

SHARES = {node: Share(site=f"site-{node}", weight=1.0) for node in (1, 2, 3)}


@pytest.fixture(autouse=True)
def _messages_are_a_coordinators() -> None:
    become_coordinator()


class Host:
    """Answers every request, some of them twice, and one that was never sent."""

    def __init__(self, *order: int):
        self.order = order

    def send_and_receive(self, messages, *, timeout=None):
        requests = {message.metadata.dst_node_id: message for message in messages}
        requests.setdefault(3, asked(3))
        for node in self.order:
            outcome = Outcome(site=f"site-{node}", status=Status.DONE).record()
            yield Message(RecordDict({OUTCOME: outcome}), reply_to=requests[node])


def asked(node):
    return Message(RecordDict(), dst_node_id=node, message_type=TRAIN)


def test_one_answer_a_site_counts_and_none_of_a_site_that_was_not_asked():
    record = RunRecord(lambda _event: None)
    record.open_round(1)
    found = [node for node, _ in answers(Host(1, 1, 3, 2, 1, 2), [asked(1), asked(2)], SHARES, record, None)]
    assert found == [1, 2]
    assert record.rounds[0].dropped == []


def test_a_site_without_an_answer_is_dropped_as_absent():
    record = RunRecord(lambda _event: None)
    record.open_round(1)
    assert [node for node, _ in answers(Host(2), [asked(1), asked(2)], SHARES, record, None)] == [2]
    assert [(drop.site, drop.code) for drop in record.rounds[0].dropped] == [("site-1", "absent")]
