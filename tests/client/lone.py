"""A federation of one site with a private job, and what the tests of the guard ask of it."""

from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

from protocol.messages import Outcome
from tests.federation import Federation

SITE = "site-01"
PRIVATE = {"privacy": {"enabled": True, "epsilon": 6.0, "spare_rounds": 1}, "federation": {"rounds": 2, "min_sites": 1}}
GRANTS_ONE = {"accept": {"min_sites": 1}}


def outcome_of(reply):
    return Outcome.of(reply.content)


def lone(tmp_path, base, **changes):
    """One site with a private job."""
    return Federation(
        tmp_path, base, sites=1, job=changes.get("job", PRIVATE), grants=changes.get("grants", GRANTS_ONE)
    )


def state_of(federation, site=SITE):
    """The site's files, but for the replay state and the event log: that the coordinator asked is remembered."""
    noted = ("state/runs/", "state/events.jsonl")
    return {name: data for name, data in federation.files(site).items() if not name.startswith(noted)}


def joint(charges, delta=1e-5):
    """The joint epsilon, by the accountant's library itself."""
    total = None
    for charge in charges:
        step = from_gaussian_mechanism(charge.sigma, sampling_prob=charge.q, value_discretization_interval=1e-3)
        group = step.self_compose(charge.steps)
        total = group if total is None else total.compose(group)
    return total.get_epsilon_for_delta(delta)
