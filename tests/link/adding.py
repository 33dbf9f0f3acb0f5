"""One site as a process of its own, as light as a site can be: the product's daemon, keys and sealing, and an app whose
update is drawn from the site's name and the round, so that a test knows every update without having seen it.

`python -m tests.link.adding ROOT SITE PORT` is the daemon of one site of a `tests.link.world.World`.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from client.link.channel import Backoff, Coordinator
from client.link.daemon import Daemon, DaemonConfig
from client.link.host import WorkerCommand
from protocol.link.logs import log_to_stderr
from tests.link.pki import read_tls

if TYPE_CHECKING:
    import numpy as np
    from flwr.clientapp import ClientApp
    from numpy.typing import NDArray

PARAMETERS = 4096
GRAIN = 1024
"""Updates are whole numbers of 1/GRAIN within -1 and 1: sums of them are exact."""
LONGEST_S = 0.4
"""A site takes up to this long over a round, so that there is time to be killed in."""


def steps_of(site: str, round_number: int) -> NDArray[np.int64]:
    """What a site adds in a round, in steps of 1/GRAIN: int64, (PARAMETERS,)."""
    import numpy as np

    seed = hashlib.sha256(f"{site}/{round_number}".encode()).digest()
    return np.random.default_rng(list(seed)).integers(-GRAIN, GRAIN + 1, PARAMETERS)


def make_app(home: Path) -> ClientApp:
    """Inside the product's own sealing: greets, and answers each round with its update and a line in `calls`."""
    import numpy as np
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from client.sealing import sealing_mod
    from client.site import open_site
    from protocol.messages import ARRAYS, METRICS, OUTCOME, Order, Outcome, Status, training_metrics
    from protocol.payload import arrays_record

    app = ClientApp(mods=[sealing_mod(lambda _context: open_site(home))])
    outcome = Outcome(site=home.name, status=Status.DONE).record()

    @app.query("hello")
    def hello(message: Message, _context: Context) -> Message:
        return Message(RecordDict({OUTCOME: outcome}), reply_to=message)

    @app.train()
    def train(message: Message, _context: Context) -> Message:
        number = Order.of(message.content).round
        with (home / "calls").open("a") as calls:
            calls.write(f"{number}\n")
        steps = steps_of(home.name, number)
        time.sleep(LONGEST_S * abs(int(steps[0])) / GRAIN)
        update = {"w": (steps / GRAIN).astype(np.float32)}
        metrics = training_metrics(rounds_taken=number, epsilon=0.0, delta=0.0, steps=1)
        content = {ARRAYS: arrays_record(update), METRICS: metrics, OUTCOME: outcome}
        return Message(RecordDict(content), reply_to=message)

    return app


def main() -> None:
    """Be the daemon of one site until killed."""
    root, site, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    home = root / site
    log_to_stderr()
    Daemon(
        DaemonConfig(
            coordinator=Coordinator(
                address=f"127.0.0.1:{port}", site=site, tls=lambda: read_tls(root / "pki" / site), release="1.0"
            ),
            worker=WorkerCommand(home=home, site=site, app="tests.link.adding:make_app"),
            desk=home / "state" / "link",
            progress=home / "state" / "progress.json",
            backoff=lambda: Backoff(first_s=0.5, longest_s=2.0),
        )
    ).run()


if __name__ == "__main__":
    main()
