"""Federations whose sums are masked, what their sites kept, and faults and lies that wait for a round and a step.

The oracle of every sum is the plain weighted mean, in float64, of the updates that lie in the sites' own files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from flwr.app import ConfigRecord, Message

from protocol.messages import TRAIN, Order
from protocol.secagg import TURN, step_of
from server.layer import GridLayer
from tests.federation import RUN, Federation, merged

GRANTS = {"data.records": {"path": "data.csv", "published_size": 20, "rows": "rows.npy"}}
SIZES = (20, 10, 5, 40, 8, 13, 6, 17, 9, 30)
STEPS = ("train", "share", "mask", "attest", "unmask")
CLIP = 4.0
_HEAD_BYTES = 72  # before the array in a kept update: 32 bytes that name the release, 32 of its secret, 8 of the round


def masked(folder, base, *, sites=3, job=None, grants=None, sizes=False):
    """A federation with secure aggregation; all sites train on all of their rows, whatever their secret is."""
    settings = merged({"secagg": {"enabled": True}, "federation": {"min_sites": 3}}, job)
    federation = Federation(folder, base, sites=sites, job=settings, grants=merged(GRANTS, grants))
    if sizes:
        publish(federation, grants)
    return federation


def publish(federation, grants=None):
    """Give every site a published size of its own."""
    for site, size in size_of(federation).items():
        own = {"data.records": {**GRANTS["data.records"], "published_size": size}}
        federation.grant(site, merged(own, grants))


def size_of(federation):
    return {site: SIZES[number % len(SIZES)] for number, site in enumerate(federation.names.values())}


def run_folder(federation, site, run=RUN):
    return federation.home(site) / "state" / "runs" / hashlib.sha256(run.encode()).hexdigest()[:24]


def kept_update(federation, site):
    """The update that waits at a site, float32, (dimensions,), or None; read past the product's own reader."""
    path = run_folder(federation, site) / "secagg.update.npy"
    if not path.exists():
        return None
    with path.open("rb") as stream:
        stream.seek(_HEAD_BYTES)
        return np.load(stream)


def kept_release(federation, site):
    """The bytes that name the release of the update that waits at a site, or None."""
    path = run_folder(federation, site) / "secagg.update.npy"
    return path.read_bytes()[:_HEAD_BYTES] if path.exists() else None


def keep_instead(federation, site, update):
    """A site that lies about its update, or whose disk did: another array waits to be masked."""
    path = run_folder(federation, site) / "secagg.update.npy"
    head = path.read_bytes()[:_HEAD_BYTES]
    with path.open("wb") as stream:
        stream.write(head)
        np.save(stream, update)


def after_training(federation, do):
    """Call `do(site)` whenever a site has answered what it was asked to train."""

    def hosted(app):
        def answer(message, context):
            kind = message.metadata.message_type
            reply = app(message, context)
            if kind == TRAIN:
                do(federation.names[message.metadata.dst_node_id])
            return reply

        return answer

    for node, app in list(federation.grid.apps.items()):
        federation.grid.apps[node] = hosted(app)


class Kept:
    """A tap at the sites: the updates that they kept, in the order of their training, by site."""

    def __init__(self, federation):
        self.by_site = {site: [] for site in federation.names.values()}
        seen = set()

        def note(site):
            """An update of an earlier round still lies there when a site refuses to train."""
            release = kept_release(federation, site)
            if release is not None and release not in seen:
                seen.add(release)
                self.by_site[site].append(kept_update(federation, site).astype(np.float64))

        after_training(federation, note)

    def __getitem__(self, site):
        return self.by_site[site]


def mean_of(updates: Mapping[str, np.ndarray], weights: Mapping[str, int]):
    """The weighted mean, float64, one site after the other."""
    total = np.zeros_like(next(iter(updates.values())))
    for site, update in updates.items():
        total += weights[site] * update
    return total / sum(weights[site] for site in updates)


def vector(state):
    return np.concatenate([value.astype(np.float64).ravel() for value in state.values()])


def off_by(sites, weights, bits=32):
    """How far a masked mean may be from the plain one: a step of rounding a site, and the model's float32.

    A job leaves one bit of a lane free beside the sign, unless it says otherwise.
    """
    step = CLIP / ((2 ** (bits - 2) - 1) // sites)
    return sites * step * max(weights.values()) / sum(weights.values()) + 1e-7


Action = Callable[[object, int, int, Message], None]


def honest(grid, node, nth, message):
    """Nothing happens."""


def lost(grid, node, nth, message):
    """The site answers, and its answer is lost."""
    grid.drop(node, nth)


def crashed(grid, node, nth, message):
    """The site's host goes down before it does anything."""
    grid.crash(node, nth)


def refused(grid, node, nth, message):
    """The site cannot read what it is asked, and refuses."""
    name = TURN if message.metadata.message_type == TRAIN else "step"
    message.content[name] = ConfigRecord({"odd": 1})


CODES = {lost: "absent", crashed: "failed", refused: "protocol"}


def resealed(change) -> Action:
    """The coordinator asks one site for something else: `change` gets the content of the request."""
    return lambda _grid, _node, _nth, message: change(message.content)


class Script:
    """What happens to requests by round, step and site: the first action to the first such request, and so on.

    It stands between SecAggGrid and SealingGrid; `asked` lists what went through.
    """

    def __init__(self, federation):
        self.federation, self.asked = federation, []
        self._actions: dict[tuple[int, str, str], list[Action]] = {}
        federation.between = lambda inner: _Acting(inner, self)

    def at(self, number, step, site, *actions: Action):
        self._actions.setdefault((number, step, site), []).extend(actions)
        return self

    def act(self, message: Message) -> None:
        node = message.metadata.dst_node_id
        training = message.metadata.message_type == TRAIN
        step = "train" if training else step_of(message.content).value
        key = (Order.of(message.content).round, step, self.federation.names[node])
        self.asked.append(key)
        waiting = self._actions.get(key)
        if waiting:
            grid = self.federation.grid
            nth = sum(each.node == node for each in grid.requests)
            waiting.pop(0)(grid, node, nth, message)

    def count(self, number, step, site):
        return self.asked.count((number, step, site))


class _Acting(GridLayer):
    def __init__(self, inner, script):
        super().__init__(inner)
        self._script = script

    def send_and_receive(self, messages, *, timeout=None):
        yield from self.inner.send_and_receive(self._acted(messages), timeout=timeout)

    def _acted(self, messages) -> Iterator[Message]:
        for message in messages:
            self._script.act(message)
            yield message


def disk(federation, site):
    """All that a site remembers, but for its last request, the event log and why it last refused: these it keeps."""
    return {
        name: data
        for name, data in federation.files(site).items()
        if not name.endswith(("/replay", "/noted.json", "lock", "progress.json", "refused.json"))
        and "/events.jsonl" not in name
    }
