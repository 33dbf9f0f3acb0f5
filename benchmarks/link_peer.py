"""The peer of `benchmarks.link`: a Flower app for a stock SuperLink, one round of FedAvg, the same numbers."""

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
def train(message: Message, context: Context) -> Message:
    step = np.float32(1 + int(str(context.node_config["site"])) / 128)
    arrays = ArrayRecord({name: _array(value.numpy() + step) for name, value in message.content["arrays"].items()})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    values = context.run_config
    parameters, sites, out = int(values["parameters"]), int(values["sites"]), Path(str(values["out"]))
    while len(list(grid.get_node_ids())) < sites:
        time.sleep(0.1)
    size = parameters // TENSORS
    first = ArrayRecord({f"layer.{number:03d}": _array(_layer(size, number)) for number in range(TENSORS)})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    start = time.monotonic()
    result = strategy.start(grid=grid, initial_arrays=first, num_rounds=1)
    seconds = time.monotonic() - start
    step = np.float32(1 + (sites - 1) / 256)
    right = all(
        np.allclose(value.numpy(), _layer(size, number) + step, rtol=0, atol=1e-6)
        for number, value in enumerate(result.arrays.values())
    )
    note = out.with_suffix(".part")
    note.write_text(json.dumps({"seconds": seconds, "right": right}))
    note.replace(out)


def _layer(size: int, number: int) -> np.ndarray:
    """As `benchmarks.link_ours` makes it: Flower's store keeps equal arrays once, and so no two are."""
    return np.resize(np.roll(np.arange(128, dtype=np.float32), number) / 128, size)


def _array(value: np.ndarray):  # type: ignore[no-untyped-def]  # noqa: ANN202, RUF100
    from flwr.app import Array

    return Array(value)
