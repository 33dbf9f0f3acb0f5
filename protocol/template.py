"""Commented settings files, made from the fields of their sections, so that they cannot fall behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from textwrap import wrap

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from learning.options import Optimiser, TaskKind
from protocol.job import Job

RECIPE: dict[str, object] = {
    "rounds": 10,
    "local_epochs": 3.0,
    "lot": 512,
    "batch": 512,
    "optimiser": Optimiser.SGD,
    "learning_rate": 0.6,
}
"""How a new job trains its head: what serves privacy on the cached trunk (docs/privacy.md, "What was tried")."""
_EXAMPLES: dict[TaskKind, dict[str, object]] = {
    TaskKind.CLASSIFY: {"name": "my-first-job", "labels": ("negative", "positive"), **RECIPE},
    TaskKind.TAG: {"name": "my-first-tagger", "kind": TaskKind.TAG, "labels": ("NAME", "DATE")},
}


def job_template(task: TaskKind = TaskKind.CLASSIFY) -> str:
    """A complete job file: every key with its default and its description; it passes `cloister job check`."""
    examples = _EXAMPLES[task]
    lines = ["# A Cloister job: one file for the simulation, the coordinator and every site.", ""]
    sections: list[str] = []
    for name, field in Job.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections += section_lines(name, field.annotation, examples)
        else:
            lines += _key(name, field, examples)
    return "\n".join([*lines, *sections, ""])


def section_lines(name: str, section: type[BaseModel], values: Mapping[str, object]) -> list[str]:
    """The lines of one TOML section: each key with its description and its default, or its value in `values`."""
    keys = [line for key, field in section.model_fields.items() for line in _key(key, field, values)]
    return ["", *comment_lines(section.__doc__ or ""), f"[{name}]", *keys]


def _key(name: str, field: FieldInfo, values: Mapping[str, object]) -> list[str]:
    value = values[name] if name in values else field.get_default()
    if isinstance(value, BaseModel):  # a section of its own
        return []
    if value is None or value is PydanticUndefined:
        return [*comment_lines(field.description or ""), f"# {name} = "]
    return [*comment_lines(field.description or ""), f"{name} = {toml_value(value)}"]


def comment_lines(text: str) -> list[str]:
    """A text as TOML comments."""
    return [f"# {line}" for line in wrap(" ".join(text.split()), width=110)]


def toml_value(value: object) -> str:
    """A setting as TOML."""
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
