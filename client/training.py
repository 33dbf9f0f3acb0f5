"""One round of training at a site: what its records and the round's model make of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from client.charging import claim
from client.data import training_examples
from client.guard import Granted
from client.refusals import UnfitError
from client.release import arrays_digest
from client.site import Site
from learning import private
from learning.model import get_state, set_state
from learning.sharded import Round, train_on_devices
from learning.storage import write_json
from learning.tasks import task_of
from learning.training import train_round, training_devices
from privacy.errors import TrainingError
from protocol.messages import TRAIN
from protocol.payload import Arrays
from protocol.plans import model_plan, training_plan


def train_update(site: Site, granted: Granted, state: Arrays) -> dict[str, NDArray[np.float32]]:
    """One round at a site: the difference between the model after and before it, float32 by name.

    With privacy the round is on the ledger; asked for again after a crash, it ends at the same bytes (`claim`).
    Raises: what data, training and privacy raise; nothing has left the site then.
    """
    number = granted.order.round
    model = _build(granted)
    set_state(model, state)  # a model that does not fit is refused before a record is read
    prepared = training_examples(
        site, granted.job, granted.base, lambda stage, done, total: site.progress(number, stage, done, total)
    )
    write_json(site.state / "hidden.json", prepared.hidden.to_dict())
    training = training_plan(granted.job, granted.published_size)

    def on_step(done: int, total: int) -> None:
        site.progress(number, TRAIN, done, total)

    if granted.plan is None:
        train_round(model, prepared.examples, training, number, on_step)
        return _difference(model, state)
    release = claim(site, granted.asked(granted.plan, state), prepared.examples)
    work = Round(
        model=model, examples=prepared.examples, training=training, plan=granted.plan, number=number, key=release.key()
    )  # fmt: skip
    train_on_devices(training_devices(), work, on_step)
    update = _difference(model, state)
    site.release().finish(release, arrays_digest(update))
    return update


def refuse_unfit(granted: Granted) -> None:
    """Returns only if the job's model can be trained privately; no record is read. Raises: UnfitError."""
    try:
        private.refuse_unfit(model_plan(granted.job, granted.base))
    except TrainingError as error:
        found = {"expected": error.expected, "found": error.found, "remedy": error.remedy}
        raise UnfitError(error.problem, **found) from None


def _difference(model: nn.Module, before: Arrays) -> dict[str, NDArray[np.float32]]:
    after = get_state(model)  # copies, which become the difference: no third model is held
    return {name: np.subtract(value, before[name], out=value) for name, value in after.items()}


def _build(granted: Granted) -> nn.Module:
    return task_of(granted.job.task.kind).build(model_plan(granted.job, granted.base))
