"""A run that goes on where it was: after each round its account, its model and its strategy's memory are on disk.

progress.json       rounds, terms, spending, the last sequence number, who is which node, what sites have announced
round-N.safetensors the model after round N, and what the strategy remembers

The model is written first, under a name of its own, and the account that names it last: a crash between the two leaves
the account of the round before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from learning.storage import write_json, write_private
from privacy.errors import ConfigError
from protocol.messages import CONFIG, ROUND, Terms
from server.layer import GridLayer
from server.prekeys import SitePrekeys
from server.record import Drop, RoundRecord, RunRecord, Spent

ACCOUNT_FILE = "progress.json"
_MODEL, _MEMORY = "model", "strategy"
_DICTS, _LISTS = ("m_t", "v_t"), ("momentum_vector",)
"""What Flower's strategies remember from round to round (flwr 1.41: FedOpt and its like, FedAvgM)."""

State = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A run after `round` rounds. `prekeys`: what its sites have announced. `memory`: the strategy's.

    `values`: what the run's own parts want to know again.
    """

    round: int
    sequence: int
    site_of: Mapping[int, str]
    prekeys: SitePrekeys
    model: State
    memory: Mapping[str, NDArray[Any]]
    values: Mapping[str, Any]


def save_progress(folder: Path, progress: Progress, record: RunRecord) -> None:
    """Keep a run's progress; on disk when this returns."""
    name = f"round-{progress.round}.safetensors"
    tensors = {f"{_MODEL}/{key}": value for key, value in progress.model.items()}
    tensors |= {f"{_MEMORY}/{key}": np.ascontiguousarray(value) for key, value in progress.memory.items()}
    write_private(folder / name, save(tensors))
    account = {
        "round": progress.round,
        "sequence": progress.sequence,
        "site_of": {str(node): site for node, site in progress.site_of.items()},
        "prekeys": progress.prekeys.values(),
        "model": name,
        "values": dict(progress.values),
        "terms": {site: asdict(terms) for site, terms in record.terms.items()},
        "spent": {site: asdict(spent) for site, spent in record.spent.items()},
        "declined": [asdict(drop) for drop in record.declined],
        "rounds": [asdict(entry) for entry in record.rounds],
    }
    write_json(folder / ACCOUNT_FILE, account)
    for other in folder.glob("round-*.safetensors"):
        if other.name != name:
            other.unlink(missing_ok=True)


def load_progress(folder: Path, record: RunRecord) -> Progress | None:
    """What `save_progress` kept, the record filled with it; None when the run has no whole round yet.

    Raises: ConfigError when the files are damaged.
    """
    path = folder / ACCOUNT_FILE
    if not path.exists():
        return None
    try:
        account = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(folder / account["model"])
        terms = {site: Terms(**values) for site, values in account["terms"].items()}
        spent = {site: Spent(**values) for site, values in account["spent"].items()}
        declined = [Drop(**values) for values in account["declined"]]
        rounds = [_round(values) for values in account["rounds"]]
        progress = Progress(
            round=int(account["round"]),
            sequence=int(account["sequence"]),
            site_of={int(node): site for node, site in account["site_of"].items()},
            prekeys=SitePrekeys.of(account["prekeys"]),
            model=_part(tensors, _MODEL),
            memory=_part(tensors, _MEMORY),
            values=account["values"],
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        raise ConfigError(
            f"{path}", expected="a run's progress", found="a damaged one", remedy="submit the job anew"
        ) from None
    record.restore(terms=terms, spent=spent, declined=declined, rounds=rounds)
    return progress


def _round(values: dict[str, Any]) -> RoundRecord:
    finished = bool(values["metrics"])  # of a run that an earlier release began
    return RoundRecord(**{"finished": finished, **values, "dropped": [Drop(**drop) for drop in values["dropped"]]})


def _part(tensors: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def memory_of(strategy: Strategy) -> dict[str, NDArray[Any]]:
    """What a strategy remembers of earlier rounds, as arrays by name."""
    found: dict[str, NDArray[Any]] = {}
    for name in _DICTS:
        for key, value in (getattr(strategy, name, None) or {}).items():
            found[f"{name}/{key}"] = value
    for name in _LISTS:
        for place, value in enumerate(getattr(strategy, name, None) or []):
            found[f"{name}/{place:06d}"] = value
    return found


def remember(strategy: Strategy, memory: Mapping[str, NDArray[Any]]) -> None:
    """Give a new strategy what `memory_of` took from an old one."""
    for name in _DICTS:
        values = {key.removeprefix(f"{name}/"): memory[key] for key in memory if key.startswith(f"{name}/")}
        if values:
            setattr(strategy, name, values)
    for name in _LISTS:
        places = sorted(key for key in memory if key.startswith(f"{name}/"))
        if places:
            setattr(strategy, name, [memory[key] for key in places])


class LaterRounds(GridLayer):
    """A strategy that is started anew counts from 1: its rounds are the run's from `after` + 1 on."""

    def __init__(self, inner: Grid, after: int) -> None:
        super().__init__(inner)
        self._after = after

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        requests, seen = list(messages), set()
        for request in requests:
            content = request.content
            if id(content) not in seen and CONFIG in content:  # a strategy shares one content among its requests
                seen.add(id(content))
                config: Any = content[CONFIG]
                content[CONFIG] = ConfigRecord({**config, ROUND: int(config[ROUND]) + self._after})
        yield from self.inner.send_and_receive(requests, timeout=timeout)
