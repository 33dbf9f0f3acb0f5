"""One federation in memory, with real keys, real files and the product's own code at both ends; faults are its methods.

Sites are folders as a site daemon has them, hosted by `MemoryGrid`; the coordinator is the stack of layers that
`server.app` builds, with a tap between sealing and summing that keeps what the sites sent.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Message, RecordDict
from numpy.typing import NDArray

from client.app import make_client_app
from client.config import SITE_FILE
from client.roster import approve
from client.site import Site, make_keys, open_site, pin_coordinator
from learning.model import build_head, get_state
from privacy.dp import Charge
from privacy.sealing import (
    PREKEY_SUITE,
    Identity,
    Opener,
    Prekey,
    PublicIdentity,
    SealContext,
    announcement,
    answer_prekey,
    open_sealed,
    peek_context,
    peek_header,
    seal,
)
from privacy.secagg import Roster
from protocol.addressing import EVERY_SITE, request_context
from protocol.job import Job, parse_job
from protocol.messages import ARRAYS, CONFIG, HELLO, TRAIN, Order
from protocol.payload import (
    arrays_record,
    as_float32,
    decode_content,
    encode_content,
    record_arrays,
    unwrap_sealed,
    wrap_sealed,
)
from protocol.plans import base_of, model_plan
from server.app import one_reply_layer
from server.greeting import Cohort, greet
from server.layer import GridLayer
from server.prekeys import RoundSecrets
from server.record import RunRecord
from server.sealing import SealingGrid
from server.strategies import make_strategy
from server.window import WindowGrid
from tests.memory_grid import Change, Envelope, MemoryGrid, Way
from tests.tiny_base import WORDS, TinyBase

logging.getLogger("flwr").setLevel(logging.ERROR)  # its strategies narrate
RUN = "run-1"
FIRST_NODE = 101
LABELS = ("calm", "ill")
Settings = Mapping[str, Mapping[str, object]]
State = dict[str, NDArray[np.float32]]


def job_of(base: TinyBase, changes: Settings | None = None) -> Job:
    """A job on the tiny base: head only, two steps a round, without privacy unless `changes` say so."""
    settings: dict[str, dict[str, object]] = {
        "task": {"labels": list(LABELS)},
        "model": {"base": str(base.folder), "tune": "head", "max_tokens": 16},
        "federation": {"rounds": 2, "min_sites": 2},
        "training": {"lot": 8, "local_steps": 2, "learning_rate": 0.1, "optimiser": "sgd", "schedule": "constant"},
        "privacy": {"enabled": False, "spare_rounds": 1},
        "secagg": {"enabled": False},
        "anonymisation": {"profile": "none"},
    }
    return parse_job('name = "test"\n' + toml(merged(settings, changes)), "job.toml")


def merged(settings: Settings, changes: Settings | None) -> Settings:
    names = {*settings, *(changes or {})}
    return {name: {**settings.get(name, {}), **(changes or {}).get(name, {})} for name in sorted(names)}


def toml(settings: Settings) -> str:
    lines = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


@dataclass(kw_only=True)
class Trained:
    """What came of a training: the model after each round (0: the first one) and the site updates by round."""

    models: list[State] = field(default_factory=list)
    updates: list[dict[str, State]] = field(default_factory=list)


class Tap(GridLayer):
    """Keeps the updates that came out of the sealing, by site, and changes nothing."""

    def __init__(self, inner: SealingGrid, names: Mapping[int, str], trained: Trained) -> None:
        super().__init__(inner)
        self._names, self._trained = names, trained

    def send_and_receive(self, messages, *, timeout=None):
        kept: dict[str, State] = {}
        for reply in self.inner.send_and_receive(messages, timeout=timeout):
            record = None if reply.has_error() else reply.content.array_records.get(ARRAYS)
            if record is not None:
                kept[self._names[reply.metadata.src_node_id]] = record_arrays(record)
            yield reply
        if kept:
            self._trained.updates.append(kept)


class Remembering(RoundSecrets):
    """A coordinator's secrets of its rounds, of which a test can open what it has recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.of_round: dict[tuple[str, int], bytes] = {}

    def prekey(self, request: SealContext) -> Prekey:
        found = super().prekey(request)
        assert self._held is not None
        self.of_round[request.run, request.round] = self._held[1]
        return found


class Federation:
    """A coordinator and `sites` sites, which are nodes 101, 102, ... and folders `site-01`, `site-02`, ..."""

    def __init__(
        self,
        root: Path,
        base: TinyBase,
        *,
        sites: int = 3,
        job: Settings | None = None,
        grants: Settings | None = None,
    ) -> None:
        self.root, self.base, self.job = root, base, job_of(base, job)
        self.identity = Identity.generate()
        self.names = {FIRST_NODE + number: f"site-{number + 1:02d}" for number in range(sites)}
        self.roster: dict[str, PublicIdentity] = {}
        self.epoch = 1
        for number, site in enumerate(self.names.values()):
            self._found(site, number)
            self.grant(site, grants)
        for site in self.roster:
            approve(self.home(site), self.sites())
        self.app = make_client_app(self._find_site)
        self.grid = MemoryGrid(
            apps=dict.fromkeys(self.names, self.app),
            contexts={node: {"home": str(self.home(site))} for node, site in self.names.items()},
        )
        self.record, self.trained = RunRecord(), Trained()
        self.site_now = ""  # which site computes: the hosts of this federation take turns
        self.between: Callable[[GridLayer], GridLayer] = lambda grid: grid  # a layer of a test's, above the sealing
        self.secrets = Remembering()
        self.prekeys: dict[bytes, Prekey] = {}  # all that sites have ever kept: what a test opens requests with
        self._sealed = self._sealing(RUN)

    # The sites.

    def home(self, site: str) -> Path:
        return self.root / site

    def node(self, site: str) -> int:
        return next(node for node, name in self.names.items() if name == site)

    def site(self, site: str) -> Site:
        return open_site(self.home(site))

    def charges(self, site: str) -> Sequence[Charge]:
        return self.site(site).ledger().charges()

    def grant(self, site: str, changes: Settings | None = None) -> None:
        """Write a site's grants: all that the tests' job asks for, but for `changes`."""
        settings: Settings = {
            "accept": {"bases": [self.base.sha256], "without_privacy": True},
            "privacy": {"epsilon": 8.0, "delta": 1e-5},
            "secagg": {"required": self.job.secagg.enabled},
            "anonymisation": {"profile": "none"},
            "data.records": {"path": "data.csv", "published_size": 20},
        }
        text = f'id = "{site}"\n' + toml(merged(settings, changes))
        (self.home(site) / SITE_FILE).write_text(text, encoding="utf-8")

    def files(self, site: str) -> dict[str, bytes]:
        """Every file of a site with its bytes: state, ledger, keys and grants."""
        home = self.home(site)
        return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}

    def restart(self) -> None:
        """All sites end and start again: what they remember is on disk."""
        self.app = make_client_app(self._find_site)
        for node in self.names:
            self.grid.apps[node] = self.app

    def deliver(self, site: str, envelope: Envelope) -> Message:
        """Hand a message to a site as its host does. Raises: what the site's app raises."""
        return self.grid.deliver(self.node(site), envelope.kind, envelope.content)

    # The coordinator.

    def greet(self, *, run: str = RUN, timeout_s: float | None = 60.0) -> Cohort:
        """Greet all nodes as the coordinator does. Raises: QuorumError."""
        nodes = list(self.grid.get_node_ids())
        return greet(
            self._sealed,
            nodes,
            run=run,
            job=self.job,
            record=self.record,
            roster=self.sites(),
            timeout_s=timeout_s,
        )

    def sites(self) -> Roster:
        return Roster(self.epoch, self.roster)

    def restart_coordinator(self, run: str = RUN) -> None:
        """The coordinator begins anew, with the roster as it is now."""
        self._sealed = self._sealing(run)

    def train(self, cohort: Cohort, *, timeout_s: float = 60.0) -> Trained:
        """All rounds of the job with the job's strategy. Raises: QuorumError."""
        tap = Tap(self._sealed, self.names, self.trained)
        summed = one_reply_layer(
            self.between(tap), job=self.job, roster=self.sites(), cohort=cohort, record=self.record
        )
        make_strategy(self.job.federation, len(cohort.shares)).start(
            grid=summed,
            initial_arrays=arrays_record(self.first_model()),
            num_rounds=self.job.federation.rounds,
            timeout=timeout_s,
            train_config=Order(run=RUN, job=self.job.canonical(), round=0).record(),
            evaluate_fn=self._keep,
        )
        return self.trained

    def run(self) -> Trained:
        """Greet and train."""
        return self.train(self.greet())

    def ask_round(self, number: int, site: str, *, run: str = RUN, model: bool = True) -> Message:
        """Ask one site for a round, past the strategy; the reply as it comes out of the sealing."""
        records = {ARRAYS: arrays_record(self.first_model())} if model else {}
        return self.ask(site, TRAIN, Order(run=run, job=self.job.canonical(), round=number), records)

    def ask(self, site: str, kind: str, order: Order, records: Mapping[str, Any]) -> Message:
        """Ask one site for anything, well sealed; the reply as it comes out of the sealing."""
        content = RecordDict({CONFIG: order.record(), **records})
        message = Message(content, dst_node_id=self.node(site), message_type=kind)
        (reply,) = self._sealed.send_and_receive([message], timeout=60.0)
        return reply

    def opened(self, envelope: Envelope) -> RecordDict:
        """What the coordinator reads of an answer on the wire."""
        return decode_content(self.open_reply(self.names[envelope.node], envelope.sealed))

    def open_reply(self, site: str, sealed: bytes) -> bytes:
        """What the coordinator reads of a site's sealed answer."""
        place = peek_context(sealed)
        return open_sealed(sealed, context=place, sender=self.roster[site], recipient=self.answer_key(place))

    def open_request(self, site: str, sealed: bytes) -> bytes:
        """What a site read of the coordinator's sealed request, but for a common body."""
        recipient_id = peek_header(io.BytesIO(sealed)).stanzas[0].recipient_id
        opener: Opener = self.prekeys.get(recipient_id) or self.site(site).identity
        return open_sealed(sealed, context=peek_context(sealed), sender=self.identity.public(), recipient=opener)

    def answer_key(self, answer: SealContext) -> Prekey:
        """The prekey that an answer was to be wrapped to, from what the coordinator has forgotten since."""
        addressee = EVERY_SITE if answer.content_type == HELLO else answer.site
        request = request_context(
            run=answer.run,
            round_number=answer.round,
            site=addressee,
            sequence=answer.sequence,
            kind=answer.content_type,
        )
        return answer_prekey(self.secrets.of_round[answer.run, answer.round], request)

    def dishonest(self, site: str, nth: int, change: Change) -> None:
        """The site answers something else, well sealed and signed with its own key."""

        def resealed(content: RecordDict) -> RecordDict:
            sealed = unwrap_sealed(content)
            said = change(decode_content(self.open_reply(site, sealed)))
            return self.sealed_answer(site, said, peek_context(sealed), self.site(site).identity)

        self.grid.change(Way.REPLY, self.node(site), nth, resealed)

    def forged(self, site: str, nth: int, signer: Identity) -> None:
        """Somebody answers in the site's name and place, with another key."""
        self.grid.change(
            Way.REPLY,
            self.node(site),
            nth,
            lambda content: self.sealed_answer(site, RecordDict(), peek_context(unwrap_sealed(content)), signer),
        )

    def sealed_answer(self, site: str, content: RecordDict, place: SealContext, signer: Identity) -> RecordDict:
        """An answer in a site's place: with the prekeys that the site keeps, or with some that nobody keeps."""
        unspent = self.site(site).run(place.run).unspent() if site in self.names.values() else None
        told = unspent.public() if unspent is not None and unspent.keys else [Prekey.generate().public()]
        plain = [announcement(told), *encode_content(content)]
        known = (place.run, place.round) in self.secrets.of_round  # of another coordinator's a forger makes one up
        to = [(self.answer_key(place) if known else Prekey.generate()).public()]
        return wrap_sealed(seal(plain, context=place, sender=signer, recipients=to, suite=PREKEY_SUITE))

    def first_model_record(self) -> ArrayRecord:
        return arrays_record(self.first_model())

    def first_model(self) -> State:
        return get_state(build_head(model_plan(self.job, base_of(self.job))))

    def _sealing(self, run: str) -> SealingGrid:
        window = WindowGrid(self.grid, len(self.names) + 1, clock=self.grid.clock, sleep=self.grid.clock.sleep)
        return SealingGrid(window, run=run, identity=self.identity, roster=self.roster, secrets=self.secrets)

    def _keep(self, _number: int, arrays: ArrayRecord) -> None:
        self.trained.models.append(as_float32(arrays))

    def _find_site(self, context: Context) -> Site:
        home = Path(str(context.node_config["home"]))
        self.site_now = home.name
        site = open_site(home)
        self.prekeys.update({key.public().id(): key for key in site.run(RUN).unspent().keys})
        return site

    def _found(self, site: str, number: int) -> None:
        home = self.home(site)
        home.mkdir(parents=True, mode=0o700)
        self.roster[site] = make_keys(home)
        pin_coordinator(home, self.identity.public())
        write_records(home / "data.csv", records(seed=number))
        np.save(home / "rows.npy", np.arange(24))  # used where a grant names it: all rows, whatever the secret


def records(seed: int, count: int = 24) -> list[dict[str, str]]:
    """Distinct notes of known words with a label that the words tell."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        ill = bool(number % 2)
        words = [*rng.choice(WORDS, 4), "pain" if ill else "calm", str(1000 * (seed + 1) + number)]
        rows.append({"text": " ".join(map(str, words)), "label": LABELS[ill]})
    return rows


def write_records(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
