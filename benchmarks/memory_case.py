"""One case of `benchmarks.memory`, alone in its process; arguments: ours or peer, sites, base, folder."""

from __future__ import annotations

import csv
import logging
import sys
from pathlib import Path

import numpy as np

PROCESSES = 2
HELD_OUT = 16


def ours(sites: int, base: str, folder: Path) -> None:
    """The product's simulation: one round of a whole model, sealed, without privacy."""
    from protocol.job import parse_job
    from simulations.host import Resources
    from simulations.simulate import simulate
    from simulations.workspace import Question

    job = parse_job(
        f"""
        name = "memory"
        [task]
        labels = ["calm", "ill"]
        [columns]
        linked = ["number"]
        [model]
        base = "{base}"
        tune = "full"
        embeddings = "trained"
        max_tokens = 8
        [federation]
        rounds = 1
        min_sites = {sites}
        weights = "equal"
        [training]
        local_steps = 1
        lot = 2
        optimiser = "sgd"
        validation = 0.0
        test = 0.0
        [privacy]
        enabled = false
        [anonymisation]
        profile = "none"
        """,
        "the benchmark's job",
    )
    records, held_out = _write(folder / "records.csv", 2 * sites), _write(folder / "test.csv", HELD_OUT)
    question = Question(job=job, data=records, test=held_out, sites=sites, partition="iid")
    result = simulate(question, folder / "out", Resources(processes=PROCESSES), compare=False)
    if len(result["rounds"][0]["participants"]) != sites:
        raise RuntimeError("not every site took part")


def peer(sites: int, base: str, _folder: Path) -> None:
    """Flower's FedAvg on its Simulation Engine: one round with messages of the same sizes."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    import protocol  # noqa: F401 - Flower keeps to itself
    from benchmarks.memory import model_bytes

    client, server = ClientApp(), ServerApp()

    @client.train()
    def train(message: Message, _context: Context) -> Message:
        arrays = ArrayRecord([array.numpy() + 1 for array in message.content["arrays"].values()])
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    took_part: list[int] = []

    @server.main()
    def serve(grid: Grid, _context: Context) -> None:
        first = ArrayRecord([np.zeros(model_bytes(base) // 4, dtype=np.float32)])
        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
        strategy.start(grid=grid, initial_arrays=first, num_rounds=1)
        took_part.append(sites)

    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(
        server,
        client,
        num_supernodes=sites,
        backend_config={
            "init_args": {"address": "local", "num_cpus": PROCESSES, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    if not took_part:
        raise RuntimeError("the peer's run did not end")


def _write(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "number"])
        writer.writerows([f"note {number}", ("calm", "ill")[number % 2], number] for number in range(count))
    return path


def main() -> int:
    """Run the case named on the command line."""
    kind, sites, base, folder = sys.argv[1:]
    {"ours": ours, "peer": peer}[kind](int(sites), base, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
