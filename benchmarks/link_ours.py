"""The processes of `benchmarks.link` on our side: the server, the run, and sites that add one and do not train.

`python -m benchmarks.link_ours prepare|serve|run|sites FOLDER ...`; the daemons are the product's own.
"""

from __future__ import annotations

import datetime
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np

TENSORS = 100
"""The model is cut into as many arrays as a BERT of this size has large ones."""
RUN = "benchmark"


def model(parameters: int) -> dict[str, np.ndarray]:
    """A model of that many float32 parameters: multiples of 1/128 below 1, no two arrays alike, no page of zeros.

    Flower's stores keep equal pieces once, and memory that was never written to costs nothing: a model of zeros would
    measure neither side.
    """
    size = parameters // TENSORS
    return {f"layer.{number:03d}": layer(size, number) for number in range(TENSORS)}


def layer(size: int, number: int) -> np.ndarray:
    """One array of the model."""
    return np.resize(np.roll(np.arange(128, dtype=np.float32), number) / 128, size)


def step_of(site: str) -> float:
    """What a site adds to every parameter: another number for each, a multiple of 1/128."""
    return 1 + int(site.rpartition("-")[2]) / 128


def expected(number: int, sites: int) -> np.ndarray:
    """The first 128 values of an array after the round; all others repeat them."""
    return layer(128, number) + np.float32(np.mean([step_of(f"site-{site}") for site in range(sites)]))


def prepare(folder: Path, sites: int) -> None:
    """Keys, certificates and folders of a coordinator and its sites, and a roster."""
    from client.site import make_keys, pin_coordinator
    from learning.storage import make_private_dir
    from privacy.sealing import Identity

    make_private_dir(folder / "coordinator")
    identity = Identity.generate()
    (folder / "coordinator" / "identity").write_bytes(identity.to_bytes())
    roster = {}
    for number in range(sites):
        home = make_private_dir(folder / f"site-{number}")
        roster[home.name] = make_keys(home).to_text()
        pin_coordinator(home, identity.public())
        (home / "site.toml").write_text(f'id = "{home.name}"\n[data.records]\npath = "none.csv"\npublished_size = 10\n')
    (folder / "roster.json").write_text(json.dumps(roster))
    _certificates(folder, list(roster))


def serve(folder: Path, port: int) -> None:
    """The server process of a coordinator."""
    from protocol.link.terms import Timing
    from server.link.serve import Serving, serve

    sites = set(json.loads((folder / "roster.json").read_text()))
    serving = Serving(admits=lambda peer: peer.subject.name in sites, release="benchmark", timing=Timing())
    serve(folder / "coordinator", lambda: _tls(folder / "tls" / "server"), f"127.0.0.1:{port}", serving, _ready)


def run(folder: Path, parameters: int) -> None:
    """One round of FedAvg on the stack of layers that a run has; prints its seconds, and checks the result."""
    from flwr.app import ConfigRecord, Message, RecordDict

    from privacy.sealing import Identity, PublicIdentity
    from protocol.job import FederationSection
    from protocol.link.flower import node_of
    from protocol.messages import CONFIG, HELLO, Order
    from protocol.payload import arrays_record, as_float32
    from server.link.grid import LinkGrid
    from server.link.presence import Presence
    from server.link.serve import link_folder
    from server.link.store import Store
    from server.record import RunRecord
    from server.sealing import SealingGrid
    from server.strategies import make_strategy
    from server.summing import Share, SummingGrid
    from server.window import WindowGrid

    texts = json.loads((folder / "roster.json").read_text())
    roster = {site: PublicIdentity.from_text(text) for site, text in texts.items()}
    home = link_folder(folder / "coordinator")
    grid = LinkGrid(Store(home), Presence(home), run=RUN, sites=lambda: list(roster))
    while len(list(grid.get_node_ids())) < len(roster):
        time.sleep(0.1)
    identity = Identity.from_bytes((folder / "coordinator" / "identity").read_bytes())
    sealed = SealingGrid(WindowGrid(grid, 4), run=RUN, identity=identity, roster=roster)
    order: ConfigRecord = Order(run=RUN, job="{}", round=0).record()
    greetings = [Message(RecordDict({CONFIG: order}), dst_node_id=node_of(site), message_type=HELLO) for site in roster]
    if any(reply.has_error() for reply in sealed.send_and_receive(greetings)):
        raise RuntimeError("a site did not greet")
    shares = {node_of(site): Share(site=site, weight=1.0) for site in roster}
    summed = SummingGrid(sealed, shares=shares, min_sites=len(roster), record=RunRecord(lambda _event: None))
    strategy = make_strategy(FederationSection(), len(roster))
    first = [arrays_record(model(parameters))]  # before the round begins, as the peer's is; the strategy holds it alone
    start = time.monotonic()
    result = strategy.start(grid=summed, initial_arrays=first.pop(), num_rounds=1, train_config=order)
    seconds = time.monotonic() - start
    for number, value in enumerate(as_float32(result.arrays).values()):
        if not np.allclose(value, np.resize(expected(number, len(roster)), value.shape), rtol=0, atol=1e-6):
            raise RuntimeError("the round's sum is wrong")
    print(json.dumps({"seconds": seconds}))


def make_app(home: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201, RUF100
    """The site's app: inside the product's own sealing, one number as the update of every parameter."""
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from client.sealing import sealing_mod
    from client.site import open_site
    from protocol.messages import ARRAYS, METRICS, OUTCOME, Outcome, Status, training_metrics
    from protocol.payload import arrays_record, record_arrays
    from protocol.records import array_record

    app = ClientApp(mods=[sealing_mod(lambda _context: open_site(home))])
    outcome = Outcome(site=home.name, status=Status.DONE).record()

    @app.query("hello")
    def hello(message: Message, _context: Context) -> Message:
        return Message(RecordDict({OUTCOME: outcome}), reply_to=message)

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        arrays = array_record(message.content, ARRAYS)
        if arrays is None:
            raise RuntimeError("a round without a model")
        update = {name: np.full_like(value, step_of(home.name)) for name, value in record_arrays(arrays).items()}
        metrics = training_metrics(rounds_taken=1, epsilon=0.0, delta=0.0, steps=1)
        content = {ARRAYS: arrays_record(update), METRICS: metrics, OUTCOME: outcome}
        return Message(RecordDict(content), reply_to=message)

    return app


def daemon(folder: Path, site: str, port: int) -> None:
    """One site's daemon with the app above."""
    from client.link.daemon import Daemon, DaemonConfig
    from client.link.host import WorkerCommand

    home = folder / site
    Daemon(
        DaemonConfig(
            coordinator=_coordinator(folder, site, port),
            worker=WorkerCommand(home=home, site=site, app="benchmarks.link_ours:make_app"),
            desk=home / "state" / "link",
            progress=home / "state" / "progress.json",
        )
    ).run()


def sites(folder: Path, port: int) -> None:
    """All sites in one process, one computing at a time: for measuring the coordinator with many of them."""
    from client.link.channel import Backoff
    from client.link.daemon import Daemon, DaemonConfig
    from client.link.host import WorkerCommand

    turn = threading.Lock()

    class InTurn(Daemon):
        """A daemon whose cases wait for their turn, so that this machine holds one site's memory."""

        def _do(self, hand):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, RUF100
            with turn:
                super()._do(hand)
                self._host.kill()

    threads = []
    for site in json.loads((folder / "roster.json").read_text()):
        home = folder / site
        config = DaemonConfig(
            coordinator=_coordinator(folder, site, port),
            worker=WorkerCommand(home=home, site=site, app="benchmarks.link_ours:make_app"),
            desk=home / "state" / "link",
            progress=home / "state" / "progress.json",
            backoff=lambda: Backoff(first_s=0.2, longest_s=2.0),
        )
        threads.append(threading.Thread(target=InTurn(config).run))
    for thread in threads:
        thread.start()


def _coordinator(folder: Path, site: str, port: int):  # type: ignore[no-untyped-def]  # noqa: ANN202, RUF100
    from client.link.channel import Coordinator

    return Coordinator(
        address=f"127.0.0.1:{port}", site=site, tls=lambda: _tls(folder / "tls" / site), release="benchmark"
    )


def _ready(_port: int) -> None:
    pass


def _tls(folder: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202, RUF100
    from protocol.link.tls import Tls

    return Tls(**{name: (folder / name).read_bytes() for name in ("authority", "chain", "key")})


def _certificates(folder: Path, names: list[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from protocol.link.certificates import SERVER_NAME, Party, Subject, key_pem, new_link_key

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    issuer, authority_key = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")]), new_link_key()

    def signed(subject, public, *extensions) -> bytes:  # type: ignore[no-untyped-def]  # noqa: ANN001, RUF100
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day)
        builder = builder.not_valid_after(now + day)
        for extension in extensions:
            critical = not isinstance(extension, x509.ExtendedKeyUsage)
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    constraints = x509.BasicConstraints(ca=True, path_length=0)
    authority = signed(issuer, authority_key.public_key(), constraints)
    for name in ["server", *names]:
        server, key = name == "server", new_link_key()
        subject = Subject(Party.COORDINATOR) if server else Subject(Party.SITE, name)
        alternative: list[x509.GeneralName] = [x509.UniformResourceIdentifier(subject.uri())]
        if server:
            alternative.append(x509.DNSName(SERVER_NAME))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        chain = signed(
            x509.Name([]),
            key.public_key(),
            x509.SubjectAlternativeName(alternative),
            x509.ExtendedKeyUsage([usage]),
        )
        place = folder / "tls" / name
        place.mkdir(parents=True)
        for file, data in (("authority", authority), ("chain", chain), ("key", key_pem(key))):
            (place / file).write_bytes(data)


def main() -> int:
    """Be the process that the command line names."""
    what, folder, *words = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    if what == "daemon":
        daemon(folder, words[0], int(words[1]))
    else:
        {"prepare": prepare, "serve": serve, "run": run, "sites": sites}[what](folder, int(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
