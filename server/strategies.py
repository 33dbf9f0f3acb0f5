"""Flower's strategies, by the name that a job gives them. Those that need single updates are named so in the job."""

from __future__ import annotations

from typing import Any

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
            return FedAvg(**common)
        case StrategyName.FEDPROX:
            return FedProx(proximal_mu=settings.proximal_mu, **common)
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
