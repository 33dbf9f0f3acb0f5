"""Flower's strategies, by the name that a job gives them. Those that need single updates are named so in the job."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    Strategy,
)

from protocol.job import FederationSection, StrategyName
from protocol.messages import ARRAYS, CONFIG, WEIGHT
from protocol.records import array_record


class _OneReply(FedAvg):
    """Takes the arrays of a round's one reply, which is the mean already, as they are: the mean of one is itself.

    Flower's own way makes three more models of it.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found = list(replies)
        if len(found) == 1 and not found[0].has_error():
            content = found[0].content
            arrays = array_record(content, self.arrayrecord_key)
            if arrays is not None:
                return arrays, self.train_metrics_aggr_fn([content], self.weighted_by_key)
        return super().aggregate_train(server_round, found)


class _OneReplyProx(FedProx, _OneReply):
    """FedProx changes what is asked of the sites, not how the mean is made."""


def make_strategy(settings: FederationSection, sites: int) -> Strategy:
    """The strategy of a job over `sites` sites, all of which are asked in every round."""
    common: dict[str, Any] = {
        "fraction_evaluate": 0.0,  # no metric leaves a site: the model is measured on held-out data
        "min_train_nodes": sites,
        "min_available_nodes": sites,
        "weighted_by_key": WEIGHT,
        "arrayrecord_key": ARRAYS,
        "configrecord_key": CONFIG,
    }
    adaptive: dict[str, Any] = {
        "eta": settings.server_learning_rate,
        "beta_1": settings.server_momentum,
        "beta_2": settings.server_beta_2,
        "tau": settings.server_tau,
    }
    momentum: dict[str, Any] = {
        "server_learning_rate": settings.server_learning_rate,
        "server_momentum": settings.server_momentum,
    }
    match settings.strategy:
        case StrategyName.FEDAVG:
            return _OneReply(**common)
        case StrategyName.FEDPROX:
            return _OneReplyProx(proximal_mu=settings.proximal_mu, **common)
        case StrategyName.FEDAVGM:
            return FedAvgM(**momentum, **common)
        case StrategyName.FEDADAM:
            return FedAdam(**adaptive, **common)
        case StrategyName.FEDYOGI:
            return FedYogi(**adaptive, **common)
        case StrategyName.FEDMEDIAN:
            return FedMedian(**common)
        case StrategyName.FEDTRIMMEDAVG:
            return FedTrimmedAvg(beta=settings.trimmed, **common)
        case StrategyName.KRUM:
            return Krum(num_malicious_nodes=settings.malicious_sites, **common)
