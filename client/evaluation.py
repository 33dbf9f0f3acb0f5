"""What taking part was worth: the run's model beside one that the site trains alone, on records that neither has seen.

The records are the site's own test part of the job's split: they were in no round. The model that is trained alone has
the job's recipe and as many rounds, and no privacy: it never leaves the site, nor do the numbers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.data import examples_of
from client.site import Site
from learning.alone import compared, train_alone
from learning.artefact import export_model, measure_folder, read_about
from learning.model import get_state
from learning.prepare import StageProgress
from learning.split import Part
from learning.storage import make_private_dir
from privacy.errors import ConfigError
from protocol.job import Job, job_from_canonical
from protocol.plans import base_of, model_plan, training_plan

RESULT_FILE, MODEL_DIR = "result.json", "model"


@dataclass(frozen=True, kw_only=True)
class Benefit:
    """Metrics of both models on `count` records of the site's test part; `records`: those that it trained on alone."""

    count: int
    records: int
    federated: Mapping[str, Any]
    alone: Mapping[str, Any]

    def values(self) -> dict[str, object]:
        return {
            "test_records": self.count,
            "training_records": self.records,
            "federated": dict(self.federated),
            "alone": dict(self.alone),
        }

    def lines(self) -> list[str]:
        names = [name for name in self.federated if name in self.alone]
        head = f"{'':24}{'with the others':>16}{'alone':>16}"
        rows = [f"{name.replace('_', ' '):24}{self.federated[name]:>16.3f}{self.alone[name]:>16.3f}" for name in names]
        return [f"on {self.count} records of this site that neither model has seen", head, *rows]


def job_of_run(folder: Path) -> Job:
    """The job of a run that was fetched. Raises: ConfigError when the folder holds none."""
    path = folder / RESULT_FILE
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        job, digest = json.dumps(result["job"]), str(result["job_digest"])
    except OSError:
        raise ConfigError(
            f"{folder}", expected="a run that was fetched", found="none", remedy="`cloister-site model fetch`"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}", expected="the result of a run", found="something else") from None
    found = job_from_canonical(job, str(path))
    if found.digest() != digest:
        raise ConfigError(f"{path}", expected="the job of the run", found="another one")
    return found


def benefit(site: Site, folder: Path, progress: StageProgress | None = None) -> Benefit:
    """Compare the model of a run with what the site reaches alone.

    Raises: DataError when the site has no test part; ConfigError when the folder is no run's, or the base is not here.
    """
    job = job_of_run(folder)
    base = base_of(job)
    train = examples_of(site, job, base, Part.TRAIN, progress).examples
    test = examples_of(site, job, base, Part.TEST, progress).examples
    plan = model_plan(job, base)
    model = train_alone(plan, training_plan(job, train.records), train)
    with tempfile.TemporaryDirectory(dir=make_private_dir(site.state), prefix=".alone.") as name:
        alone = Path(name) / MODEL_DIR  # as a folder, so that both are measured in the same way
        export_model(alone, plan, get_state(model), read_about(folder / MODEL_DIR))
        return Benefit(
            count=test.records,
            records=train.records,
            federated=compared(measure_folder(folder / MODEL_DIR, test)),
            alone=compared(measure_folder(alone, test)),
        )
