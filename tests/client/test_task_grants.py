"""A site takes part in the tasks that it grants, and maps the columns of each task to its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.config import DataSection, SiteConfig
from client.data import columns_of, own_columns
from client.policy import reasons_against
from learning.base import MINILM, MINILM_SHA256, Base
from protocol.job import Job, parse_job

BASE = Base(name=MINILM, folder=Path(), sha256=MINILM_SHA256)
PATH = {"path": "records.jsonl", "published_size": 10}


def job_of(kind: str) -> Job:
    return parse_job(f'name = "j"\n[task]\nkind = "{kind}"\nlabels = ["A", "B"]\n', "job.toml")


def site(accept: dict[str, object]) -> SiteConfig:
    return SiteConfig.model_validate({"id": "ward-7", "accept": accept, "data": {"records": PATH}})


@pytest.mark.parametrize(
    ("granted", "asked", "refused"),
    [
        (None, "classify", False),
        (None, "tag", True),
        (["tag"], "tag", False),
        (["tag"], "classify", True),
        (["classify", "tag"], "tag", False),
        ([], "classify", True),
    ],
)
def test_a_task_that_is_not_granted_is_declined(granted: list[str] | None, asked: str, refused: bool) -> None:
    config = site({} if granted is None else {"tasks": granted})
    expected = [f"task {asked} is not granted"] if refused else []
    assert reasons_against(job_of(asked), BASE, config) == expected


def test_a_site_maps_the_columns_of_the_task_and_no_others() -> None:
    section = DataSection.model_validate(PATH | {"columns": {"text": "note", "label": "ward", "spans": "marks"}})
    tagger, classifier = columns_of(job_of("tag"), section), columns_of(job_of("classify"), section)
    assert (tagger.text, tagger.label, tagger.spans) == ("note", None, "marks")
    assert (classifier.text, classifier.label, classifier.spans) == ("note", "ward", None)
    plain = columns_of(job_of("tag"), DataSection.model_validate(PATH))
    assert (plain.text, plain.spans) == ("text", "spans")


def test_a_data_set_of_marked_texts_needs_no_label_column() -> None:
    columns = own_columns(DataSection.model_validate(PATH | {"columns": {"spans": "marks"}}))
    assert (columns.label, columns.spans) == (None, "marks")
    assert own_columns(DataSection.model_validate(PATH)).label == "label"


def test_the_settings_that_a_new_site_writes_name_the_role() -> None:
    from client.template import NewSite, site_template

    assert '# spans = "..."' in site_template(NewSite(id="ward-7", data=json.dumps("x"), published_size=3))
