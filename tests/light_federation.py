"""Sites with real keys, folders and sealing, and an app that adds a number: rounds in milliseconds, without torch.

The coordinator here is the product's sealing, summing and account; its host knows requests by their place, as the
link's store does: what was asked is not asked again, and what was answered is delivered to whoever asks again. Either
end can be killed at any of its durable writes (`Deaths`).
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.sealing import sealing_mod
from client.site import Site, make_keys, open_site, pin_coordinator
from privacy.errors import SealError
from privacy.sealing import Identity, Opener, PublicIdentity, SealContext, open_sealed, peek_context, peek_header
from protocol.messages import ARRAYS, CONFIG, HELLO, METRICS, OUTCOME, TRAIN, Order, Outcome, Status, training_metrics
from protocol.payload import arrays_record, as_float32, sealed_array
from server.layer import GridLayer
from server.prekeys import RoundSecrets
from server.record import RunRecord
from server.resume import Progress, load_progress, save_progress
from server.rounds import Share
from server.sealing import SealingGrid
from server.summing import SummingGrid
from server.window import WindowGrid
from tests.memory_grid import Envelope, MemoryGrid, copied

RUN = "run-1"
FIRST_NODE = 101
SIZE = 8


class Killed(BaseException):
    """kill -9, as far as one process can have it: nothing that catches errors sees it."""


class Deaths:
    """Kills whoever makes the nth durable change below a folder, before it or after it. `seen`: how many there were."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.seen, self._at, self._after = folder, 0, -1, False

    def die(self, at: int, *, after: bool) -> None:
        self._at, self._after, self.seen = at, after, 0

    def change(self, path: Path, do: Callable[[], object]) -> object:
        if not path.is_relative_to(self._folder):
            return do()
        mine, self.seen = self.seen == self._at, self.seen + 1
        if mine and not self._after:
            raise Killed
        found = do()
        if mine:
            raise Killed
        return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        replace, unlink = Path.replace, Path.unlink
        Path.replace = lambda path, target: self.change(  # type: ignore[assignment, method-assign]
            Path(target), lambda: replace(path, target)
        )
        Path.unlink = lambda path, missing_ok=False: self.change(  # type: ignore[method-assign]
            path, lambda: unlink(path, missing_ok=missing_ok)
        )
        try:
            yield
        finally:
            Path.replace, Path.unlink = replace, unlink  # type: ignore[method-assign]


class PlaceGrid(GridLayer):
    """Knows a request by its place and its node over the life of a run; each life of the coordinator gets each reply
    once. `deaths`: a push and the handing out of a reply are moments to be killed in, too.
    """

    def __init__(self, inner: MemoryGrid, deaths: Deaths) -> None:
        super().__init__(inner)
        self._deaths = deaths
        self._ids: dict[tuple[bytes, int], str] = {}
        self._replies: dict[str, Message] = {}
        self._taken: set[str] = set()

    def restart(self) -> None:
        self._taken.clear()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._deaths.change(self._deaths._folder, lambda: self._push(each)) for each in messages]  # noqa: B023

    def _push(self, message: Message) -> str:
        key = peek_context(sealed_array(message.content).data).hash(), message.metadata.dst_node_id
        if key not in self._ids:
            (self._ids[key],) = self.inner.push_messages([message])
        return self._ids[key]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        wanted = [each for each in message_ids if each not in self._taken]
        for reply in self.inner.pull_messages(wanted):
            self._replies[reply.metadata.reply_to_message_id] = reply
        for each in wanted:
            if each in self._replies:
                self._taken.add(each)
                yield self._again(self._replies[each])

    @staticmethod
    def _again(reply: Message) -> Message:
        if reply.has_error():
            return reply
        again = Message(copied(reply.content), dst_node_id=1, message_type=reply.metadata.message_type)
        again.metadata.__dict__.update(reply.metadata.__dict__)
        return again


class LightFederation:
    """`sites` sites and one coordinator, whose account lies in `root/coordinator`."""

    def __init__(self, root: Path, sites: int = 2) -> None:
        self.root, self.identity = root, Identity.generate()
        self.names = {FIRST_NODE + number: f"site-{number + 1:02d}" for number in range(sites)}
        self.roster: dict[str, PublicIdentity] = {site: self._found(site) for site in self.names.values()}
        self.grid = MemoryGrid(apps={node: self._hosted(site) for node, site in self.names.items()})
        self.calls: Counter[tuple[str, int]] = Counter()
        self.told: list[str] = []
        (root / "coordinator").mkdir()
        self.deaths = Deaths(root / "coordinator")
        self.site_deaths = {site: Deaths(self.home(site)) for site in self.roster}
        self.host = PlaceGrid(self.grid, self.deaths)
        self.record = RunRecord()
        self.sealed = self._sealing()
        self.after_round: Callable[[int], None] = lambda _number: None

    # The sites.

    def home(self, site: str) -> Path:
        return self.root / site

    def site(self, site: str) -> Site:
        return open_site(self.home(site))

    def node(self, site: str) -> int:
        return next(node for node, name in self.names.items() if name == site)

    def _found(self, site: str) -> PublicIdentity:
        self.home(site).mkdir()
        public = make_keys(self.home(site))
        pin_coordinator(self.home(site), self.identity.public())
        text = f'id = "{site}"\n[data.records]\npath = "none.csv"\npublished_size = 10\n'
        (self.home(site) / "site.toml").write_text(text)
        return public

    def _hosted(self, site: str):
        """The site's process: a kill of it is an error of its host, and the next message finds it started again."""
        app = self._app(site)

        def answer(message: Message, context: Context) -> Message:
            try:
                with self.site_deaths[site].watching():
                    return app(message, context)
            except Killed:
                raise ConnectionError("killed") from None

        return answer

    def _app(self, site: str) -> ClientApp:
        app = ClientApp(mods=[sealing_mod(lambda _context: self.site(site))])
        outcome = Outcome(site=site, status=Status.DONE).record()

        @app.query("hello")
        def hello(message: Message, _context: Context) -> Message:
            self.calls[site, 0] += 1
            return Message(RecordDict({OUTCOME: outcome}), reply_to=message)

        @app.train()
        def train(message: Message, _context: Context) -> Message:
            if CONFIG not in message.content:
                raise SealError("a request", expected="a round", found="nothing")
            number = Order.of(message.content).round
            self.calls[site, number] += 1
            update = {"w": np.full(SIZE, step(site, number), np.float32)}
            metrics = training_metrics(rounds_taken=number, epsilon=0.0, delta=0.0, steps=1)
            content = {ARRAYS: arrays_record(update), METRICS: metrics, OUTCOME: outcome}
            return Message(RecordDict(content), reply_to=message)

        return app

    # The coordinator.

    @property
    def work(self) -> Path:
        return self.root / "coordinator"

    def _sealing(self) -> SealingGrid:
        window = WindowGrid(self.host, len(self.names), clock=self.grid.clock, sleep=self.grid.clock.sleep)
        return SealingGrid(
            window,
            run=RUN,
            identity=self.identity,
            roster=self.roster,
            secrets=RoundSecrets(self.work),
            told=self.told.append,
        )

    def restart(self) -> None:
        """The coordinator is started again: all that it knows is on its disk."""
        self.host.restart()
        self.record, self.sealed = RunRecord(), self._sealing()

    def run(self, rounds: int) -> np.ndarray:
        """From wherever the account says to the end; the model."""
        with self.deaths.watching():
            return self._go(rounds)

    def run_through(self, rounds: int) -> np.ndarray:
        """The same, started again after every kill."""
        while True:
            try:
                return self.run(rounds)
            except Killed:
                self.restart()

    def _go(self, rounds: int) -> np.ndarray:
        kept = load_progress(self.work, self.record)
        if kept is None:
            self._greet()
            model = np.zeros(SIZE, np.float32)
            self._save(0, model)
        else:
            self.sealed.restore(kept.sequence, kept.site_of, kept.prekeys)
            self.sealed.over(kept.round)
            model = kept.model["w"]
        shares = {node: Share(site=site, weight=1.0) for node, site in self.names.items()}
        summed = SummingGrid(self.sealed, shares=shares, min_sites=1, record=self.record)
        for number in range((kept.round if kept is not None else 0) + 1, rounds + 1):
            content = RecordDict({ARRAYS: arrays_record({"w": model}), CONFIG: self._order(number)})
            (reply,) = summed.send_and_receive([self._message(content, node, TRAIN) for node in self.names])
            model = as_float32(reply.content[ARRAYS])["w"].copy()
            self._save(number, model)
            self.after_round(number)
        return model

    def _greet(self) -> None:
        content = RecordDict({CONFIG: self._order(0)})
        replies = list(self.sealed.send_and_receive([self._message(content, node, HELLO) for node in self.names]))
        assert all(not each.has_error() and OUTCOME in each.content for each in replies)

    def _save(self, number: int, model: np.ndarray) -> None:
        sequence, site_of = self.sealed.place
        progress = Progress(
            round=number,
            sequence=sequence,
            site_of=site_of,
            prekeys=self.sealed.prekeys,
            model={"w": model},
            memory={},
            values={},
        )
        save_progress(self.work, progress, self.record)
        self.sealed.over(number)

    def _order(self, number: int):
        return Order(run=RUN, job="{}", round=number).record()

    @staticmethod
    def _message(content: RecordDict, node: int, kind: str) -> Message:
        return Message(content, dst_node_id=node, message_type=kind)

    # What somebody on the wire has recorded.

    def recorded(self) -> list[Envelope]:
        return [*self.grid.requests, *self.grid.replies]


def step(site: str, number: int) -> int:
    """What a site adds in a round."""
    return int(site[-2:]) * 3**number


def opens(sealed: bytes, opener: Opener, sender: PublicIdentity, place: SealContext | None = None) -> bool:
    """Whether a recorded message opens with a key that somebody has got hold of."""
    try:
        open_sealed(sealed, context=place or peek_context(sealed), sender=sender, recipient=opener)
    except SealError:
        return False
    return True


def recipient_of(sealed: bytes) -> bytes:
    """Whom a recorded message is wrapped to, where that is one recipient."""
    (stanza,) = peek_header(io.BytesIO(sealed)).stanzas
    return stanza.recipient_id
