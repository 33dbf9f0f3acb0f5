"""The commented job file that `cloister job new` writes: made from the fields, so that it cannot fall behind them."""

from __future__ import annotations

import json
from enum import Enum
from textwrap import wrap

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from protocol.job import Job

_EXAMPLES: dict[str, object] = {"name": "my-first-job", "labels": ("negative", "positive")}


def job_template() -> str:
    """A complete job file: every key with its default and its description; it passes `cloister job check`."""
    lines = ["# A Cloister job: one file for the simulation, the coordinator and every site.", ""]
    sections: list[str] = []
    for name, field in Job.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections += ["", *_comment(field.annotation.__doc__ or ""), f"[{name}]", *_keys(field.annotation)]
        else:
            lines += _key(name, field)
    return "\n".join([*lines, *sections, ""])


def _keys(section: type[BaseModel]) -> list[str]:
    return [line for name, field in section.model_fields.items() for line in _key(name, field)]


def _key(name: str, field: FieldInfo) -> list[str]:
    value = field.get_default()
    value = _EXAMPLES[name] if value is PydanticUndefined else value
    return [*_comment(field.description or ""), f"{name} = {_toml(value)}"]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(" ".join(text.split()), width=110)]


def _toml(value: object) -> str:
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if "e" not in text else f"{value:.0e}"
    return json.dumps(value, ensure_ascii=False)
