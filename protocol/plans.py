"""From a job to the plans that the floors below work by. Both ends compute the same plans from the same job."""

from __future__ import annotations

from collections.abc import Sequence

from learning.base import Base, find_base
from learning.options import HeadStart, ModelPlan, TaskKind, TrainingPlan, Tune
from learning.rows import Columns
from privacy.dp import Plan, calibrate
from protocol.job import RECORD_UNIT, Embeddings, Job, StrategyName


def base_of(job: Job) -> Base:
    """The job's base model on this machine. Raises: ConfigError when it is not there or is another one."""
    return find_base(job.model.base, job.model.sha256)


def model_plan(job: Job, base: Base) -> ModelPlan:
    """What is built and which part of it is tuned."""
    return ModelPlan(
        base=base,
        labels=job.task.kind.outputs(len(job.task.labels)),
        task=job.task.kind,
        tune=job.model.tune,
        train_embeddings=job.model.embeddings is Embeddings.TRAINED,
        lora_rank=job.model.lora_rank,
        lora_alpha=job.model.lora_alpha,
        lora_frozen_a=job.model.lora_frozen_a,
        label_texts=_said(job.task.labels) if job.model.head_start is HeadStart.LABELS else (),
        dropout=job.model.dropout,
        seed=job.training.seed,
    )


def _said(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels as they would be said: `card_arrival` is "card arrival"."""
    return tuple(" ".join(label.replace("_", " ").replace("-", " ").split()) or label for label in labels)


def caches_vectors(job: Job) -> bool:
    """Whether a frozen trunk runs once, and its vectors are cached: one a text, which a tagger does not have."""
    return job.model.tune is Tune.HEAD and job.task.kind is TaskKind.CLASSIFY


def job_columns(job: Job) -> Columns:
    """The columns of a job's roles, under the names that the job gives them."""
    marked = job.task.kind is TaskKind.TAG
    return Columns(
        text=job.columns.text,
        label=None if marked else job.columns.label,
        unit=None if job.privacy.unit == RECORD_UNIT else job.privacy.unit,
        linked=job.columns.linked,
        spans=job.columns.spans if marked else None,
    )


def training_plan(job: Job, published_size: int) -> TrainingPlan:
    """How a site of a published size trains one round."""
    settings, federation = job.training, job.federation
    return TrainingPlan(
        steps_per_round=job.steps_per_round(published_size),
        rounds=federation.rounds,
        lot=settings.lot,
        batch=settings.batch,
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        warmup=settings.warmup,
        precision=settings.precision,
        proximal_mu=federation.proximal_mu if federation.strategy is StrategyName.FEDPROX else 0.0,
        class_weights=job.task.class_weights,
        seed=settings.seed,
    )


def privacy_plan(job: Job, published_size: int) -> Plan:
    """The frozen privacy plan of a site of a published size, with the noise that keeps the job's target.

    Raises: BudgetError when no noise does.
    """
    return calibrate(
        target_epsilon=job.privacy.epsilon,
        delta=job.privacy.delta,
        clip_norm=job.privacy.clip,
        sampling_rate=job.sampling_rate(published_size),
        divisor=job.divisor(published_size),
        steps_per_round=job.steps_per_round(published_size),
        rounds=job.federation.rounds,
        spare_rounds=job.privacy.spare_rounds,
        unit=job.privacy.unit,
        max_records_per_unit=job.privacy.max_records_per_unit,
    )
