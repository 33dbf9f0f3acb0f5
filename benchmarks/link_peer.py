"""The peer of `benchmarks.link`: a Flower app for a stock SuperLink, one round of FedAvg, an update of ones."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

TENSORS = 100
PYPROJECT = """
[project]
name = "benchmark-peer"
version = "1.0.0"
description = "The peer of a benchmark"
license = "Apache-2.0"
dependencies = ["flwr"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "benchmark"
[tool.flwr.app.components]
serverapp = "benchmark_peer:server"
clientapp = "benchmark_peer:client"
[tool.flwr.app.config]
parameters = 0
sites = 0
out = ""
"""

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, _context: Context) -> Message:
    arrays = ArrayRecord({name: _array(value.numpy() + 1) for name, value in message.content["arrays"].items()})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    values = context.run_config
    parameters, sites, out = int(values["parameters"]), int(values["sites"]), Path(str(values["out"]))
    while len(list(grid.get_node_ids())) < sites:
        time.sleep(0.1)
    zeros = np.zeros(parameters // TENSORS, dtype=np.float32)
    first = ArrayRecord({f"layer.{number:03d}": _array(zeros) for number in range(TENSORS)})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    start = time.monotonic()
    result = strategy.start(grid=grid, initial_arrays=first, num_rounds=1)
    seconds = time.monotonic() - start
    right = all((value.numpy() == 1).all() for value in result.arrays.values())
    note = out.with_suffix(".part")
    note.write_text(json.dumps({"seconds": seconds, "right": right}))
    note.replace(out)


def _array(value: np.ndarray):  # type: ignore[no-untyped-def]  # noqa: ANN202, RUF100
    from flwr.app import Array

    return Array(value)
