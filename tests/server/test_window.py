"""The window of messages under way, over nodes that answer on a clock of their own."""

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from privacy.errors import ConfigError
from protocol.messages import TRAIN
from server.layer import GridLayer
from server.window import WindowGrid
from tests.memory_grid import MemoryGrid


def echo(message, _context):
    return Message(RecordDict({"c": ConfigRecord({"node": message.metadata.dst_node_id})}), reply_to=message)


def host(nodes):
    return MemoryGrid(apps=dict.fromkeys(range(1, nodes + 1), echo))


def window(grid, width):
    return WindowGrid(grid, width, clock=grid.clock, sleep=grid.clock.sleep)


def messages(nodes):
    for node in range(1, nodes + 1):
        yield Message(RecordDict(), dst_node_id=node, message_type=TRAIN)


def sources(replies):
    return [reply.metadata.src_node_id for reply in replies]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_at_most_so_many_messages_are_under_way_and_every_reply_comes(width, delay):
    grid = host(8)
    for node in (1, 4, 8):
        grid.delay(node, 0, delay)
    assert sorted(sources(window(grid, width).send_and_receive(messages(8)))) == list(range(1, 9))
    assert grid.most_in_flight == min(width, 8)


@pytest.mark.parametrize("width", [0, -1])
def test_a_window_of_none_is_refused(width):
    with pytest.raises(ConfigError):
        WindowGrid(host(1), width)


def test_a_window_of_one_asks_a_site_only_after_the_one_before_has_answered():
    grid = host(3)
    for node in (1, 2, 3):
        grid.delay(node, 0, 10.0 - node)
    seen = []
    for reply in window(grid, 1).send_and_receive(messages(3)):
        seen.append((reply.metadata.src_node_id, len(grid.requests)))
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_replies_are_yielded_as_they_arrive():
    grid = host(3)
    for node, seconds in ((1, 9.0), (2, 1.0), (3, 4.0)):
        grid.delay(node, 0, seconds)
    arrived = [(r.metadata.src_node_id, grid.clock()) for r in window(grid, 3).send_and_receive(messages(3))]
    assert [node for node, _ in arrived] == [2, 3, 1]
    for (_, at), due in zip(arrived, (1.0, 4.0, 9.0), strict=True):
        assert due <= at <= due + 1.0  # a waiting coordinator looks at least once a second


def test_replies_that_are_there_together_come_in_the_order_of_the_host():
    grid = host(3)
    grid.reorder(3, 1, 2)
    assert sources(window(grid, 3).send_and_receive(messages(3))) == [3, 1, 2]


def test_a_message_without_a_reply_is_given_up_after_its_own_time_and_no_other():
    grid = host(4)
    grid.drop(1, 0)
    grid.delay(2, 0, 6.0)
    grid.delay(3, 0, 7.0)
    found = sources(window(grid, 2).send_and_receive(messages(4), timeout=10.0))
    # Node 3 is asked when node 2 has answered, at 6 s, and answers at 13 s: in its own time. Node 4 is asked at 10 s,
    # in the place of node 1, which was given up then, and answers at once.
    assert found == [2, 4, 3]
    assert 10.0 <= grid.clock() <= 15.0


def test_a_reply_that_comes_after_its_time_is_not_yielded():
    grid = host(2)
    grid.delay(1, 0, 30.0)
    assert sources(window(grid, 2).send_and_receive(messages(2), timeout=10.0)) == [2]
    assert grid.clock() <= 11.0


def test_without_a_timeout_a_reply_is_waited_for():
    grid = host(1)
    grid.delay(1, 0, 86_400.0)
    assert sources(window(grid, 1).send_and_receive(messages(1))) == [1]


def test_a_reply_that_comes_twice_is_yielded_once():
    grid = host(2)
    grid.duplicate(1, 0)
    assert sources(window(grid, 2).send_and_receive(messages(2))) == [1, 2]


def test_no_messages_no_replies():
    assert list(window(host(2), 2).send_and_receive([])) == []


def test_a_message_is_made_only_when_there_is_room_for_it():
    grid, made = host(5), []

    def counted():
        for message in messages(5):
            made.append(message.metadata.dst_node_id)
            yield message

    first = next(iter(window(grid, 2).send_and_receive(counted())))
    assert first.metadata.src_node_id == 1
    assert made == [1, 2]


class Idle(MemoryGrid):
    """A host that says of some nodes that they cannot take work now, until a time on its clock."""

    def push_messages(self, messages):
        wanted = list(messages)
        names = list(super().push_messages(wanted))
        self.node_of.update({name: m.metadata.dst_node_id for name, m in zip(names, wanted, strict=True)})
        return names

    def idle(self, message_ids):
        return {name for name in message_ids if self.node_of[name] in self.nodes} if self.clock() < self.until else ()

    def moving(self, message_ids, within_s):
        return {name for name in message_ids if self.clock() - self.moved.get(self.node_of[name], -1e9) < within_s}


def sleepers(nodes, until):
    grid = Idle(apps=dict.fromkeys(range(1, 9), echo))
    grid.nodes, grid.until, grid.node_of, grid.moved = nodes, until, {}, {}
    for node in nodes:
        grid.delay(node, 0, until)
    return grid


@pytest.mark.parametrize("width", [1, 2, 3])
def test_sites_that_cannot_take_work_now_keep_no_place_in_the_window(width):
    grid = sleepers({1, 2, 3, 4}, 1000.0)
    layered = WindowGrid(GridLayer(grid), width, clock=grid.clock, sleep=grid.clock.sleep)
    seen = [(each.metadata.src_node_id, grid.clock()) for each in layered.send_and_receive(messages(8))]
    assert [node for node, _ in seen] == [5, 6, 7, 8, 1, 2, 3, 4]
    assert all(at < 60.0 for node, at in seen if node > 4)
    assert all(1000.0 <= at < 1060.0 for node, at in seen if node <= 4)


def test_a_site_whose_time_has_come_takes_a_place_again():
    grid = sleepers({1, 2}, 50.0)
    for node in (1, 2):
        grid.delay(node, 0, 100.0)
    for node in (3, 4):
        grid.delay(node, 0, 60.0)
    replies = window(grid, 2).send_and_receive(messages(8))
    assert next(replies).metadata.src_node_id == 3 and grid.clock() >= 60.0
    asked = len(grid.requests)
    assert asked == 4  # two that were idle, and the two of the window
    assert sorted(sources(replies)) == [1, 2, 4, 5, 6, 7, 8]
    assert grid.most_in_flight == 4


def test_sites_that_are_slow_but_at_work_keep_their_places():
    grid = sleepers({1}, 1000.0)
    for node in (2, 3):
        grid.delay(node, 0, 100.0)
    first = next(iter(window(grid, 2).send_and_receive(messages(8))))
    assert first.metadata.src_node_id == 2
    assert len(grid.requests) == 3


def test_a_message_that_a_reply_gives_rise_to_is_sent_while_others_are_under_way():
    """An iterator that was at its end once is tried again after replies came."""
    grid, rest = host(3), list(messages(3))
    grid.delay(3, 0, 100.0)

    class More:
        def __iter__(self):
            return self

        def __next__(self):
            if rest:
                return rest.pop(0)
            raise StopIteration

    seen = []
    for reply in window(grid, 5).send_and_receive(More()):
        seen.append((reply.metadata.src_node_id, grid.clock() < 100.0))
        if seen == [(1, True)]:
            rest.append(Message(RecordDict(), dst_node_id=2, message_type=TRAIN))
    assert seen == [(1, True), (2, True), (2, True), (3, False)]


def test_what_moves_is_given_its_time_anew_and_what_stands_still_is_given_up():
    grid = sleepers(set(), 0.0)
    grid.delay(1, 0, 35.0)
    grid.delay(2, 0, 35.0)
    grid.moved = {1: 28.0, 2: 12.0}  # when their bytes moved last
    layered = window(grid, 3)
    seen = [(each.metadata.src_node_id, grid.clock()) for each in layered.send_and_receive(messages(3), timeout=10.0)]
    assert [node for node, _ in seen] == [3, 1]
    assert 35.0 <= seen[-1][1] <= 36.0
