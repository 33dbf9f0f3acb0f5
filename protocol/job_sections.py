"""The sections of a job file: every key with its type, bounds, default and description.

The fields below are the only documentation of the keys: the commented template, the error messages and
`docs/operator.md` are made from them.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from learning.options import HeadStart, Optimiser, Precision, Schedule, TaskKind, Tune
from privacy.dp import WHOLE_SITE


class Embeddings(StrEnum):
    FROZEN = "frozen"
    TRAINED = "trained"


class StrategyName(StrEnum):
    FEDAVG = "fedavg"
    FEDPROX = "fedprox"
    FEDAVGM = "fedavgm"
    FEDADAM = "fedadam"
    FEDYOGI = "fedyogi"
    FEDMEDIAN = "fedmedian"
    FEDTRIMMEDAVG = "fedtrimmedavg"
    KRUM = "krum"

    @property
    def needs_single_updates(self) -> bool:
        """Whether the strategy looks at each site's update, not at their mean alone."""
        return self in (StrategyName.FEDMEDIAN, StrategyName.FEDTRIMMEDAVG, StrategyName.KRUM)


class LaneBits(IntEnum):
    """Bits of one number of a masked update."""

    NARROW = 16
    WIDE = 32


class Weights(StrEnum):
    EQUAL = "equal"
    PUBLISHED = "published"


RECORD_UNIT = "record"
NO_PROFILE = "none"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Section(BaseModel):
    """A frozen section without unknown keys; numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TaskSection(Section):
    """What is learned."""

    kind: TaskKind = Field(
        TaskKind.CLASSIFY, description="classify (one label for a text) or tag (the entities in a text)", strict=False
    )
    labels: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(
        description="classify: two labels or more, in the order of the head's outputs; tag: entity types, one or more",
        strict=False,
    )
    class_weights: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        (),
        description="weight of each label in the loss, in the order of labels; a public constant, never counted from "
        "the data; empty: all 1; classify only",
        strict=False,
    )

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        fewest = 1 if self.kind is TaskKind.TAG else 2
        if len(self.labels) < fewest:
            raise ValueError(f"labels: expected at least {fewest} labels; found {len(self.labels)}")
        if len(self.labels) > 10_000:
            raise ValueError(f"labels: expected at most 10000 labels; found {len(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: expected distinct labels; found one twice")
        if self.class_weights and len(self.class_weights) != len(self.labels):
            raise ValueError(
                f"class_weights: expected one weight a label ({len(self.labels)}); found {len(self.class_weights)}"
            )
        if self.kind is TaskKind.TAG and self.class_weights:
            raise ValueError("class_weights: expected none with kind = tag; found some")
        if self.kind is TaskKind.TAG and any(name == "O" or name[:2] in ("B-", "I-") for name in self.labels):
            raise ValueError("labels: expected entity types without O, B- and I-, which are made from them; found one")
        return self


class ColumnsSection(Section):
    """The roles of columns, by the name they have unless a site maps them to its own."""

    text: Column = Field("text", description="the column that holds the text")
    label: Column = Field("label", description="classify: the column that holds the label")
    spans: Column = Field(
        "spans",
        description='tag: the column of entities, a list (or its JSON) of {"start", "end", "label"}, end excluded',
    )
    linked: tuple[Column, ...] = Field(
        (),
        description="columns whose values are the record's own identifiers and are hidden in its text (name, number, "
        "phone, address); empty: every column but text and label (or spans)",
        strict=False,
    )


class ModelSection(Section):
    """Which BERT, and which part of it is tuned."""

    base: Annotated[str, StringConstraints(min_length=1, max_length=500)] = Field(
        "minilm", description="minilm, the folder of a BERT-family model, or a hub id"
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="SHA-256 of the base's model.safetensors, in hex; empty: the pin of minilm, else what is found"
    )
    tune: Tune = Field(Tune.HEAD, description="head, lora (adapters and head) or full (all layers)", strict=False)
    embeddings: Embeddings = Field(
        Embeddings.FROZEN, description="with tune = full: frozen or trained token embeddings", strict=False
    )
    lora_rank: int = Field(8, ge=1, le=256, description="rank of the LoRA adapters")
    lora_alpha: int = Field(16, ge=1, le=1024, description="LoRA scaling numerator (scale = alpha / rank)")
    lora_frozen_a: bool = Field(
        False,
        description="LoRA: of each pair only B is tuned, A stays as it was drawn from the seed; noise is then added "
        "to half as many numbers, and the mean of the sites' B is the mean of what they do",
    )
    head_start: HeadStart = Field(
        HeadStart.ZERO,
        description="classify: zero, or labels: the head begins with what the base itself makes of the labels' names, "
        "which are public, so that it costs no privacy; for labels that say what they mean",
        strict=False,
    )
    max_tokens: int = Field(
        128, ge=8, le=512, description="tokens read at once; longer texts are cut (tag: windows that overlap)"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the tuned layers while training, as a fraction")


class FederationSection(Section):
    """Who takes part, and how updates are combined."""

    rounds: int = Field(5, ge=1, le=10_000, description="rounds of training")
    min_sites: int = Field(
        2, ge=1, le=10_000, description="fewest sites whose updates make a round; fewer stop the run"
    )
    strategy: StrategyName = Field(
        StrategyName.FEDAVG,
        description="fedavg, fedprox, fedavgm, fedadam or fedyogi; fedmedian, fedtrimmedavg and krum need single "
        "updates and so secagg.enabled = false",
        strict=False,
    )
    weights: Weights = Field(
        Weights.PUBLISHED,
        description="equal, or published: the rounded size that each site publishes, fixed before the first round",
        strict=False,
    )
    proximal_mu: float = Field(0.01, ge=0, le=1000, description="fedprox: weight of the proximal term")
    server_learning_rate: float = Field(
        1.0, gt=0, le=1000, description="fedavgm, fedadam, fedyogi: step size of the coordinator"
    )
    server_momentum: float = Field(0.9, ge=0, lt=1, description="fedavgm, fedadam, fedyogi: momentum (beta_1)")
    server_beta_2: float = Field(0.99, ge=0, lt=1, description="fedadam, fedyogi: second-moment decay (beta_2)")
    server_tau: float = Field(0.001, gt=0, le=1, description="fedadam, fedyogi: adaptivity, added to the denominator")
    trimmed: float = Field(0.2, ge=0, lt=0.5, description="fedtrimmedavg: share that is cut off at each end")
    malicious_sites: int = Field(0, ge=0, le=10_000, description="krum: sites that may lie")
    straggler_grace_s: float = Field(
        0.0,
        ge=0,
        le=604_800,
        description="seconds that a round waits for the others once min_sites have answered; 0: for all that were "
        "asked, a day at most; without secure aggregation only: with it secagg.stage_timeout_s rules",
    )
    rollback_margin: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="a round after which the loss on the coordinator's held-out validation data (nats) is higher by "
        "more than this is rolled back; 0: never",
    )
    measure_every: int = Field(
        1,
        ge=1,
        le=10_000,
        description="the model is measured on held-out texts after every so many rounds, and after the last",
    )


class TrainingSection(Section):
    """What a site does in a round."""

    local_epochs: float = Field(
        1.0, gt=0, le=1000, description="passes over the published size in a round; ignored when local_steps is set"
    )
    local_steps: int = Field(0, ge=0, le=1_000_000, description="optimiser steps in a round; 0: from local_epochs")
    lot: int = Field(64, ge=1, le=1_000_000, description="expected records (or persons) in a step")
    batch: int = Field(32, ge=1, le=65_536, description="records computed at once; a lot is split into such batches")
    optimiser: Optimiser = Field(Optimiser.ADAMW, description="adamw or sgd", strict=False)
    learning_rate: float = Field(1e-3, gt=0, le=1000, description="peak step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: momentum")
    weight_decay: float = Field(0.0, ge=0, le=10, description="weight decay: decoupled with adamw, L2 with sgd")
    schedule: Schedule = Field(
        Schedule.LINEAR, description="constant, linear or one-cycle, over the steps of all rounds", strict=False
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="linear, one-cycle: share of the steps with a rising step size")
    precision: Precision = Field(
        Precision.FLOAT32, description="float32, or bf16 / fp16 autocast where the site has a GPU", strict=False
    )
    early_stopping_rounds: int = Field(
        0, ge=0, le=10_000, description="stop after so many rounds without a lower loss on held-out data; 0: never"
    )
    validation: float = Field(0.1, ge=0, lt=0.9, description="share of units held out for validation")
    test: float = Field(0.2, ge=0, lt=0.9, description="share of units held out for the test")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of what is not private: initial head, shuffles, dropout")

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.validation + self.test >= 0.95:
            raise ValueError(
                f"validation: expected validation + test under 0.95; found {self.validation + self.test:g}"
            )
        return self


class PrivacySection(Section):
    """Differential privacy: on unless a job says otherwise and the site agrees."""

    enabled: bool = Field(True, description="true: DP-SGD at every site; false needs the site's consent")
    epsilon: float = Field(8.0, gt=0, le=1000, description="target epsilon of a site over all rounds")
    delta: float = Field(1e-5, gt=0, lt=0.1, description="delta of the guarantee")
    clip: float = Field(1.0, ge=1e-4, le=1e6, description="largest L2 norm of one unit's gradient, 1e-4 at least")
    unit: Column = Field(
        RECORD_UNIT, description="what is protected: record, or the column that names the person (patient_id)"
    )
    max_records_per_unit: int = Field(
        1, ge=1, le=100_000, description="records of one person (tag: windows) in a round; 1 for unit = record"
    )
    spare_rounds: int = Field(
        1, ge=0, le=1000, description="rounds set aside in the calibration for rounds that are drawn afresh"
    )

    @model_validator(mode="after")
    def _a_record_is_one_record(self) -> Self:
        if self.unit == RECORD_UNIT and self.max_records_per_unit != 1:
            raise ValueError(f"max_records_per_unit: expected 1 with unit = record; found {self.max_records_per_unit}")
        if self.unit == WHOLE_SITE:
            raise ValueError(f"unit: expected record or a column; found {WHOLE_SITE}, which is the unit of [noise]")
        return self


class SecAggSection(Section):
    """Secure aggregation: the coordinator sees the sum of the updates and no single one. Three sites at least."""

    enabled: bool = Field(True, description="true: updates are masked; false needs every site's consent")
    threshold: int = Field(
        0, ge=0, le=100, description="sites that must stay to the end of a round; 0: the fewest, floor(2n/3) + 1 of n"
    )
    lane_bits: LaneBits = Field(
        LaneBits.WIDE, description="bits of one number of a masked update: 32, or 16 for half the traffic", strict=False
    )
    clip: float = Field(
        4.0, gt=0, le=1e6, description="largest absolute entry of an update; the finest step is a share of it"
    )
    clip_norm: float = Field(
        100.0, gt=0, le=1e9, description="largest L2 norm of a site's update in one round; longer ones are shortened"
    )
    headroom_bits: int = Field(1, ge=0, le=16, description="bits of a lane that the largest possible sum leaves free")
    attempts: int = Field(
        3, ge=1, le=100, description="how often a round is attempted, each time with fresh keys, before the run stops"
    )
    stage_timeout_s: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="seconds without a byte after which a site that trained is lost in the round",
    )


class NoiseSection(Section):
    """Noise that adds up: each site adds its share under the mask, and the sums hide each site as a whole."""

    enabled: bool = Field(
        False,
        description="true: each sum of updates carries noise, measured against secagg.clip_norm; needs secagg.enabled",
    )
    epsilon: float = Field(
        8.0, gt=0, le=1000, description="target epsilon of one whole site, for whoever sees the sums of all rounds"
    )
    delta: float = Field(1e-5, gt=0, lt=0.1, description="delta of that guarantee")
    honest_share: float = Field(
        0.67,
        gt=0,
        le=1,
        description="share of the invited sites, counted down to whole ones, that is trusted to add its noise and to "
        "tell nobody; all others may help the coordinator",
    )
    spare_rounds: int = Field(
        1, ge=0, le=1000, description="sums set aside in the calibration for rounds that are attempted again"
    )


class AnonymisationSection(Section):
    """What is hidden before a text is tokenised."""

    profile: Name = Field(
        "hipaa-safe-harbor",
        description="hipaa-safe-harbor, gdpr-pseudonymise, pci, pipl, strict, or none (needs the site's consent)",
    )
