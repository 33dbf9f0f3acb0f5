"""The job file: every key documented, every mistake named in one line, one canonical form."""

import json
import math
import tomllib
from fractions import Fraction

import pytest
from pydantic import BaseModel

from learning.base import open_base
from learning.options import Optimiser, TaskKind
from privacy.errors import ConfigError
from protocol.job import Job, job_from_canonical, parse_job, read_job
from protocol.plans import model_plan
from protocol.template import RECIPE, job_template

MINIMAL = 'name = "j"\n[task]\nlabels = ["a", "b"]\n'


def job(text=""):
    return parse_job(MINIMAL + text, "job.toml")


def keys():
    """Every key of a job as (section, name); section "" for the top."""
    found = []
    for name, field in Job.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += [(name, key) for key in field.annotation.model_fields]
        else:
            found.append(("", name))
    return found


def field_of(section, name):
    model = Job.model_fields[section].annotation if section else Job
    return model.model_fields[name]


@pytest.mark.parametrize(("section", "name"), keys())
def test_each_key_is_documented_and_in_the_template_with_its_comment(section, name):
    description = field_of(section, name).description
    assert description
    assert len(description) > 10
    values = tomllib.loads(job_template())
    assert name in (values[section] if section else values)
    flat = " ".join(line.removeprefix("# ") for line in job_template().split("\n"))
    assert " ".join(description.split()) in flat


def test_the_template_is_a_job_with_the_recipe_for_a_head_and_the_default_of_every_other_key():
    made = parse_job(job_template(), "template")
    plain = job().model_dump(mode="json")
    found = made.model_dump(mode="json")
    plain["name"], plain["task"]["labels"] = found["name"], found["task"]["labels"]
    assert (made.training.lot, made.training.optimiser, made.privacy.clip) == (512, Optimiser.SGD, 1.0)
    for section in ("federation", "training"):
        plain[section] |= {name: found[section][name] for name in RECIPE if name in found[section]}
    assert found == plain


def test_the_defaults_are_the_safe_ones():
    plain = job()
    assert plain.privacy.enabled
    assert plain.anonymisation.profile == "hipaa-safe-harbor"
    assert plain.federation.min_sites == 2
    assert plain.privacy.unit == "record"


MALFORMED = [
    ("", "job.toml: name; expected a value; found none; 1 more after this one"),
    ("name = ", "job.toml; expected a TOML file; found"),
    ('name = "j"\nname = "k"\n', "job.toml; expected a TOML file; found"),
    ('name = "j"\n', "job.toml: task; expected a value; found none"),
    ('name = "../j"\n[task]\nlabels = ["a", "b"]\n', "job.toml: name; expected string should match pattern"),
    ('name = "j"\n[task]\nlabels = ["a"]\n', "job.toml: task.labels; expected at least 2 labels; found 1"),
    ('name = "j"\n[task]\nlabels = ["a", "a"]\n', "job.toml: task.labels; expected distinct labels; found one twice"),
    ('name = "j"\n[task]\nlabels = "ab"\n', "job.toml: task.labels; expected a valid tuple; found 'ab'"),
    (
        MINIMAL + "class_weights = [1.0]\n",
        "job.toml: task.class_weights; expected one weight a label (2); found 1",
    ),
    (MINIMAL + 'kind = "guess"\n', "job.toml: task.kind; expected 'classify' or 'tag'; found 'guess'"),
    (MINIMAL + "[privcy]\n", "job.toml: privcy; expected a known key; found an unknown one; see `cloister job new`"),
    (MINIMAL + "[privacy]\nepsilonn = 1.0\n", "job.toml: privacy.epsilonn; expected a known key; found an unknown one"),
    (MINIMAL + "[privacy]\nepsilon = 0.0\n", "job.toml: privacy.epsilon; expected greater than 0; found 0.0"),
    (MINIMAL + "[privacy]\nepsilon = inf\n", "job.toml: privacy.epsilon; expected a finite number; found inf"),
    (MINIMAL + "[privacy]\nepsilon = nan\n", "job.toml: privacy.epsilon; expected a finite number; found nan"),
    (MINIMAL + '[privacy]\nepsilon = "8"\n', "job.toml: privacy.epsilon; expected a valid number; found '8'"),
    (MINIMAL + "[privacy]\ndelta = 0.1\n", "job.toml: privacy.delta; expected less than 0.1; found 0.1"),
    (
        MINIMAL + "[privacy]\nmax_records_per_unit = 5\n",
        "job.toml: privacy.max_records_per_unit; expected 1 with unit = record; found 5",
    ),
    (MINIMAL + "[privacy]\nenabled = 0\n", "job.toml: privacy.enabled; expected a valid boolean; found 0"),
    (
        MINIMAL + "[federation]\nrounds = 0\n",
        "job.toml: federation.rounds; expected greater than or equal to 1; found 0",
    ),
    (MINIMAL + "[federation]\nrounds = 2.0\n", "job.toml: federation.rounds; expected a valid integer; found 2.0"),
    (MINIMAL + "[federation]\nrounds = true\n", "job.toml: federation.rounds; expected a valid integer; found True"),
    (
        MINIMAL + '[federation]\nstrategy = "best"\n',
        "job.toml: federation.strategy; expected 'fedavg', 'fedprox', 'fedavgm', 'fedadam', 'fedyogi', "
        "'fedmedian', 'fedtrimmedavg' or 'krum'; found 'best'",
    ),
    (
        MINIMAL + '[federation]\nstrategy = "krum"\n',
        "job.toml: federation.strategy; expected one that reads the mean alone, or secagg.enabled = false; "
        "found krum, which needs single updates",
    ),
    (
        MINIMAL + "[training]\nvalidation = 0.5\ntest = 0.5\n",
        "job.toml: training.validation; expected validation + test under 0.95; found 1",
    ),
    (MINIMAL + '[model]\nsha256 = "abc"\n', "job.toml: model.sha256; expected string should match pattern"),
    (MINIMAL + "[training]\nlot = 1\nlot = 2\n", "job.toml; expected a TOML file; found"),
    ("schema_version = 2\n" + MINIMAL, "job.toml: schema_version; expected less than or equal to 1; found 2"),
    (MINIMAL + f'[model]\nbase = "{"b" * 501}"\n', "job.toml: model.base; expected string should have at most 500"),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_a_malformed_job_is_refused_in_one_line_with_file_key_expected_and_found(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_job(text, "job.toml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "expected a job file; found No such file"),
        (b"name = '\xff'", "expected UTF-8"),
        (b"#" * 262_145, "a larger"),
    ],
)
def test_a_file_that_is_no_job_file_is_refused(tmp_path, data, message):
    path = tmp_path / "job.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_job(path)


def test_a_file_of_the_largest_size_is_read(tmp_path):
    path = tmp_path / "job.toml"
    path.write_bytes(MINIMAL.encode() + b"#" * (262_144 - len(MINIMAL)))
    assert read_job(path) == job()


def test_the_canonical_form_is_one_sorted_line_of_ascii_and_comes_back_whole():
    made = parse_job('name = "j"\n[task]\nlabels = ["schön", "zwei\\nZeilen", "中"]\n', "job.toml")
    text = made.canonical()
    assert text.isascii()
    assert "\n" not in text
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert job_from_canonical(text, "x") == made
    assert job_from_canonical(text, "x").digest() == made.digest()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "{}", '{"name": "j", "x": 1}'])
def test_what_is_no_canonical_job_is_refused(text):
    with pytest.raises(ConfigError):
        job_from_canonical(text, "the job that was sent")


def changed(section, name):
    """A job that differs from the minimal one in this key alone."""
    others = {
        "name": '"k"', "kind": None, "schema_version": None, "labels": None, "class_weights": "[1.0, 2.0]",
        "linked": '["mrn"]', "text": '"t"', "label": '"l"', "spans": None, "base": '"other"', "sha256": f'"{"a" * 64}"',
        "tune": '"full"', "embeddings": '"trained"', "strategy": '"fedadam"', "weights": '"equal"',
        "optimiser": '"sgd"', "schedule": '"constant"', "precision": '"bf16"', "enabled": "false",
        "lane_bits": "16", "lora_frozen_a": "true", "head_start": '"labels"', "unit": '"patient_id"',
        "max_records_per_unit": None, "profile": '"strict"',
    }  # fmt: skip
    value = others.get(name, "numeric")
    if section == "noise" and name == "enabled":
        value = "true"
    if value is None:
        return None
    if value == "numeric":
        default = field_of(section, name).default
        value = str(default + 1) if isinstance(default, int) else repr(default * 0.5 + 0.01)
    if not section:
        return parse_job(MINIMAL.replace('name = "j"', f"{name} = {value}"), "x")
    return job(f"{name} = {value}\n") if section == "task" else job(f"[{section}]\n{name} = {value}\n")


@pytest.mark.parametrize(("section", "name"), keys())
def test_the_digest_of_a_job_changes_with_every_key(section, name):
    other = changed(section, name)
    if other is not None:
        assert other.digest() != job().digest()
        assert other != job()


def test_the_digest_tells_labels_and_their_order_apart():
    texts = ['["a", "b"]', '["b", "a"]', '["a", "b", "c"]', '["ab", "c"]']
    made = [parse_job(f'name = "j"\n[task]\nlabels = {labels}\n', "x").digest() for labels in texts]
    assert len(set(made)) == 4


def test_equal_jobs_have_equal_digests_however_their_files_are_written():
    text = 'name="j" # note\ntask = { labels = ["a", "b"] }\n[privacy]\nepsilon = 8.0\n'
    assert parse_job(text, "x").digest() == job().digest()


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 640, 1_000_003])
@pytest.mark.parametrize("lot", [1, 64, 100])
@pytest.mark.parametrize("epochs", [0.1, 1.0, 2.5])
def test_rate_divisor_and_steps_are_functions_of_the_published_size_alone(size, lot, epochs):
    """In fractions: a lot is `lot` of `size` units, and the passes are made in whole steps."""
    made = job(f"[training]\nlot = {lot}\nlocal_epochs = {epochs}\n")
    expected_lot = min(lot, size)
    assert made.sampling_rate(size) * size == pytest.approx(expected_lot)
    assert 0 < made.sampling_rate(size) <= 1
    assert made.divisor(size) == expected_lot
    assert made.steps_per_round(size) == math.ceil(Fraction(str(epochs)) * size / expected_lot)


@pytest.mark.parametrize("size", [1, 1000])
def test_steps_that_are_given_are_taken_as_they_are(size):
    assert job("[training]\nlocal_steps = 7\n").steps_per_round(size) == 7


TAGGER = 'name = "j"\n[task]\nkind = "tag"\nlabels = ["NAME"]\n'


def test_a_role_of_another_task_is_no_part_of_what_crosses_the_wire():
    """A classifier's job has the digest that it had before there were taggers, and an older site reads it."""
    assert "spans" not in job().canonical()
    assert job().digest() == job("[columns]\nspans = 'marks'\n").digest()
    assert job_from_canonical(job().canonical(), "x") == job()


def test_a_head_that_starts_at_zero_is_no_part_of_what_crosses_the_wire():
    """So that such a job is the one of earlier versions, and an older site refuses one that starts from the labels."""
    assert "head_start" not in job().canonical()
    starting = job("[model]\nhead_start = 'labels'\n")
    assert '"head_start":"labels"' in starting.canonical()
    assert job_from_canonical(starting.canonical(), "x") == starting


def test_how_often_a_model_is_measured_crosses_the_wire_only_where_it_is_not_every_round():
    assert "measure_every" not in job().canonical()
    seldom = job("[federation]\nmeasure_every = 4\n")
    assert '"measure_every":4' in seldom.canonical()
    assert job_from_canonical(seldom.canonical(), "x") == seldom


def test_a_tagger_does_not_start_from_labels():
    with pytest.raises(ConfigError, match="head_start"):
        parse_job(TAGGER + "[model]\nhead_start = 'labels'\n", "x")


def test_labels_are_read_as_they_would_be_said(tiny_base):
    labels = '["card_arrival", "Top-up  failed", "___"]'
    text = f'name = "j"\n[task]\nlabels = {labels}\n[model]\nhead_start = "labels"\n'
    assert model_plan(parse_job(text, "x"), open_base(tiny_base.folder, "tiny")).label_texts == (
        "card arrival",
        "Top up failed",
        "___",
    )
    assert model_plan(job(), open_base(tiny_base.folder, "tiny")).label_texts == ()


def test_a_tagger_has_one_type_or_more_and_its_column_is_part_of_its_digest():
    tagger = parse_job(TAGGER, "x")
    assert tagger.task.kind.outputs(len(tagger.task.labels)) == 3
    assert job_from_canonical(tagger.canonical(), "x") == tagger
    assert tagger.digest() != parse_job(TAGGER + "[columns]\nspans = 'marks'\n", "x").digest()


@pytest.mark.parametrize(
    "line", ['labels = ["B-NAME"]', 'labels = ["I-X"]', 'labels = ["O"]', "labels = []",
             'labels = ["NAME"]\nclass_weights = [2.0]'],
)  # fmt: skip
def test_a_taggers_labels_are_entity_types(line):
    with pytest.raises(ConfigError, match=r"labels|class_weights"):
        parse_job(TAGGER.replace('labels = ["NAME"]', line), "x")


def test_the_template_of_each_task_passes_its_own_check():
    made = parse_job(job_template(TaskKind.TAG), "template")
    assert made.task.kind is TaskKind.TAG
    assert parse_job(job_template(), "template").task.kind is TaskKind.CLASSIFY
