"""Differential privacy: the plan, its accounting, and the clipped, noised step.

The step itself needs torch and is imported as `privacy.dp.engine`; all names here work without it.
"""

from privacy.dp.accountant import StepGroup, epsilon_of
from privacy.dp.ledger import (
    Attempt,
    Charge,
    LedgerStore,
    Limit,
    MemoryLedger,
    charge_for,
    charge_round,
    joint_epsilon,
)
from privacy.dp.plan import RECORD, Plan, calibrate
from privacy.dp.release import Release, Request
from privacy.dp.sampling import Contributions, PoissonSampler, bound_contributions
from privacy.dp.shared_noise import WHOLE_SITE, SharedNoise, calibrate_shares
from privacy.dp.site_ledger import charge_release, check_release, site_epsilon
from privacy.dp.stream import SecureStream

__all__ = [
    "RECORD",
    "WHOLE_SITE",
    "Attempt",
    "Charge",
    "Contributions",
    "LedgerStore",
    "Limit",
    "MemoryLedger",
    "Plan",
    "PoissonSampler",
    "Release",
    "Request",
    "SecureStream",
    "SharedNoise",
    "StepGroup",
    "bound_contributions",
    "calibrate",
    "calibrate_shares",
    "charge_for",
    "charge_release",
    "charge_round",
    "check_release",
    "epsilon_of",
    "joint_epsilon",
    "site_epsilon",
]
