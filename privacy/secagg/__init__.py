"""Secure aggregation: the coordinator learns the sum of the survivors' updates, and no single one.

Pure: values in, values out, no clock and no network. `Site` and `Coordinator` are the two machines; what must outlive a
crash is a value with `to_bytes` that the caller stores before it sends. docs/secagg.md gives the protocol by the byte.

Source: Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning" (ePrint 2017/281),
the variant against a malicious server, on the complete graph, with fresh keys for every attempt.
"""

from privacy.secagg.accumulator import Accumulator
from privacy.secagg.ballots import Attestation, Attestations, Reveal, Survivors
from privacy.secagg.context import Context, Roster, Suite
from privacy.secagg.coordinator import Coordinator, Unmasked
from privacy.secagg.faults import Fault
from privacy.secagg.history import History
from privacy.secagg.messages import Advert, Delivery, InputSeal, Roll, Shares
from privacy.secagg.plan import LaneWidth, Metric, SecAggPlan, SiteFloors, smallest_threshold
from privacy.secagg.quantise import Contribution, Mean
from privacy.secagg.session import Session
from privacy.secagg.signed import Signed, read_signed
from privacy.secagg.site import Site
from privacy.secagg.transitions import CoordinatorStage, SiteStage
from privacy.secagg.upload import Upload

__all__ = [
    "Accumulator",
    "Advert",
    "Attestation",
    "Attestations",
    "Context",
    "Contribution",
    "Coordinator",
    "CoordinatorStage",
    "Delivery",
    "Fault",
    "History",
    "InputSeal",
    "LaneWidth",
    "Mean",
    "Metric",
    "Reveal",
    "Roll",
    "Roster",
    "SecAggPlan",
    "Session",
    "Shares",
    "Signed",
    "Site",
    "SiteFloors",
    "SiteStage",
    "Suite",
    "Survivors",
    "Unmasked",
    "Upload",
    "read_signed",
    "smallest_threshold",
]
