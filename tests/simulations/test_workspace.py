"""The simulated federation on disk: each record and each person at one place, folders for the owner alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.policy import effective_profile
from client.site import open_site
from learning.options import TaskKind
from privacy.errors import ConfigError, DataError
from protocol.job import read_job
from simulations.cores import usable_cores
from simulations.workspace import SMALLEST_SITE, Question, Workspace, build, published_size, regrant
from tests.federation import Settings, records, write_records
from tests.simulations.runs import write_job
from tests.tiny_base import TinyBase

COUNT = 60


def made(root: Path, base: TinyBase, changes: Settings | None = None, **asked: object) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    job = read_job(write_job(root / "job.toml", base, changes))
    rows = [{**row, "person": f"p{n // 3}", "ward": f"w{n % 4}"} for n, row in enumerate(records(seed=1, count=COUNT))]
    write_records(root / "notes.csv", rows)
    values: Mapping[str, object] = {"test": None, "sites": 3, "partition": "iid", **asked}
    question = Question(job=job, data=root / "notes.csv", **values)  # type: ignore[arg-type]
    return build(root / "work", question)


def rows_at(workspace: Workspace) -> list[list[int]]:
    return [np.load(workspace.site_home(site) / "rows.npy").tolist() for site in sorted(workspace.roster)]


def held_out(workspace: Workspace) -> list[list[int]]:
    return [np.load(file).tolist() for file in workspace.data.rows.values()]


def test_every_record_is_at_one_site_or_held_out(tmp_path: Path, tiny_base: TinyBase) -> None:
    stopping = {"validation": 0.2, "test": 0.2, "early_stopping_rounds": 1}
    workspace = made(tmp_path, tiny_base, {"training": stopping})
    assert len(held_out(workspace)) == 2
    everywhere = [row for part in (*rows_at(workspace), *held_out(workspace)) for row in part]
    assert sorted(everywhere) == list(range(COUNT))
    assert {site: len(part) for site, part in zip(sorted(workspace.roster), rows_at(workspace), strict=True)} == (
        workspace.records
    )


def test_without_early_stopping_only_the_test_is_prepared(tmp_path: Path, tiny_base: TinyBase) -> None:
    assert list(made(tmp_path, tiny_base).data.rows) == ["test"]
    with pytest.raises(DataError, match="validation"):
        made(tmp_path / "none", tiny_base, {"training": {"early_stopping_rounds": 1, "validation": 0.0}})


def test_a_file_for_the_test_leaves_all_records_to_the_sites(tmp_path: Path, tiny_base: TinyBase) -> None:
    write_records(tmp_path / "test.csv", records(seed=9, count=8))
    workspace = made(tmp_path, tiny_base, test=tmp_path / "test.csv")
    assert sorted(row for part in rows_at(workspace) for row in part) == list(range(COUNT))
    assert held_out(workspace) == [list(range(8))]
    assert workspace.data.path == str(tmp_path / "test.csv")


@pytest.mark.parametrize("partition", ["iid", "dirichlet:0.5"])
def test_a_person_is_at_one_place(tmp_path: Path, tiny_base: TinyBase, partition: str) -> None:
    changes = {"privacy": {"unit": "person", "max_records_per_unit": 3}}
    workspace = made(tmp_path, tiny_base, changes, partition=partition)
    places: dict[int, set[int]] = {}
    for place, part in enumerate([*rows_at(workspace), *held_out(workspace)]):
        for row in part:
            places.setdefault(row // 3, set()).add(place)
    assert all(len(found) == 1 for found in places.values())


def test_a_partition_by_column_follows_it(tmp_path: Path, tiny_base: TinyBase) -> None:
    workspace = made(tmp_path, tiny_base, sites=4, partition="column:ward")
    assert [len({row % 4 for row in part}) for part in rows_at(workspace)] == [1, 1, 1, 1]


def test_the_seed_alone_decides_who_gets_what(tmp_path: Path, tiny_base: TinyBase) -> None:
    first, again = made(tmp_path / "a", tiny_base), made(tmp_path / "b", tiny_base)
    other = made(tmp_path / "c", tiny_base, {"training": {"seed": 5}})
    assert rows_at(first) == rows_at(again)
    assert rows_at(first) != rows_at(other)
    assert first.identity.to_bytes() != again.identity.to_bytes()


def test_everything_is_for_the_owner_alone(tmp_path: Path, tiny_base: TinyBase) -> None:
    workspace = made(tmp_path, tiny_base)
    for site in workspace.roster:
        home = workspace.site_home(site)
        assert home.stat().st_mode & 0o077 == 0
        assert open_site(home).coordinator == workspace.identity.public()
        assert open_site(home).identity.public() == workspace.roster[site]


def test_no_key_is_shown(tmp_path: Path, tiny_base: TinyBase) -> None:
    workspace = made(tmp_path, tiny_base)
    assert workspace.identity.to_bytes().hex()[:16] not in repr(workspace)
    assert "identity" not in repr(workspace) and "roster" not in repr(workspace)


def test_a_site_grants_what_the_job_asks_and_no_more(tmp_path: Path, tiny_base: TinyBase) -> None:
    workspace = made(tmp_path, tiny_base)
    config = open_site(workspace.site_home("site-01")).config
    assert (config.privacy.epsilon, config.privacy.delta) == (4.0, 1e-5)
    assert not config.accept.without_privacy
    assert effective_profile(workspace.question.job, config) == "strict"
    (workspace.site_home("site-01") / "site.toml").unlink()
    regrant(workspace)
    assert open_site(workspace.site_home("site-01")).config == config


@pytest.mark.parametrize("sites", [-1, 0, 1, 10**6])
def test_a_number_of_sites_out_of_range_is_refused(tmp_path: Path, tiny_base: TinyBase, sites: int) -> None:
    with pytest.raises(ConfigError, match="--sites"):
        made(tmp_path, tiny_base, sites=sites)
    assert not (tmp_path / "work" / "sites").exists()


def test_more_sites_than_records_for_them_is_refused(tmp_path: Path, tiny_base: TinyBase) -> None:
    most = COUNT // SMALLEST_SITE
    with pytest.raises((ConfigError, DataError)):
        made(tmp_path, tiny_base, sites=most + 1)


@pytest.mark.parametrize("units", [1, 9, 10, 99, 100, 101, 999, 1000, 1234, 98765])
def test_a_published_size_has_two_digits_and_never_overstates(units: int) -> None:
    published = published_size(units)
    assert published == int(float(f"{units:.6e}"[:3] + f"e{math.floor(math.log10(units))}") + 1e-6)
    assert published <= units


class TestCores:
    """The quota of the control groups counts as well as the affinity."""

    @staticmethod
    def cores(tmp_path: Path, group: str = "", **files: str) -> int:
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "own").write_text(f"12:cpu:/x\n0::/{group}\n")
        return usable_cores(tmp_path / "own", tmp_path / "v2", tmp_path / "v1")

    @pytest.fixture(autouse=True)
    def _eight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))

    def test_without_quota_the_affinity_counts(self, tmp_path: Path) -> None:
        assert self.cores(tmp_path) == 8
        assert self.cores(tmp_path, v2__cpu_DOT_max="max 100000\n") == 8

    @pytest.mark.parametrize(("quota", "cores"), [(50_000, 1), (100_000, 1), (150_000, 1), (300_000, 3), (900_000, 8)])
    def test_a_quota_rounds_down_and_leaves_one(self, tmp_path: Path, quota: int, cores: int) -> None:
        assert self.cores(tmp_path, v2__cpu_DOT_max=f"{quota} 100000\n") == cores

    def test_the_narrowest_group_above_counts(self, tmp_path: Path) -> None:
        files = {"v2__a__cpu_DOT_max": "200000 100000", "v2__a__b__cpu_DOT_max": "500000 100000"}
        assert self.cores(tmp_path, "a/b", **files) == 2

    def test_the_older_hierarchy_counts(self, tmp_path: Path) -> None:
        files = {"v1__cpu_DOT_cfs_quota_us": "400000\n", "v1__cpu_DOT_cfs_period_us": "100000\n"}
        assert self.cores(tmp_path, **files) == 4
        assert self.cores(tmp_path, v1__cpu_DOT_cfs_quota_us="-1\n") == 8

    def test_a_path_that_leaves_the_hierarchy_is_not_followed(self, tmp_path: Path) -> None:
        assert self.cores(tmp_path, "../out", out__cpu_DOT_max="100000 100000") == 8


def tagged(root: Path, base: TinyBase, partition: str = "iid") -> Workspace:
    """A workspace of texts in which every word is marked; the ward is a column beside."""
    root.mkdir(parents=True, exist_ok=True)
    changes: Settings = {"task": {"kind": "tag", "labels": ["WORD"]}, "columns": {"linked": []}}
    job = read_job(write_job(root / "job.toml", base, changes))
    rows = [
        {"ward": f"w{n % 4}", "text": f"note {n}", "spans": [{"start": 0, "end": 4, "label": "WORD"}]}
        for n in range(COUNT)
    ]
    (root / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return build(root / "work", Question(job=job, data=root / "notes.jsonl", test=None, sites=3, partition=partition))


@pytest.mark.parametrize("partition", ["iid", "column:ward"])
def test_texts_with_entities_are_dealt_and_their_sites_grant_the_task(
    tmp_path: Path, tiny_base: TinyBase, partition: str
) -> None:
    workspace = tagged(tmp_path, tiny_base, partition)
    everywhere = [row for part in (*rows_at(workspace), *held_out(workspace)) for row in part]
    assert sorted(everywhere) == list(range(COUNT))
    for site in workspace.roster:
        assert open_site(workspace.site_home(site)).config.accept.tasks == (TaskKind.TAG,)


def test_texts_are_dealt_by_the_kinds_of_entities_that_they_have(tmp_path: Path, tiny_base: TinyBase) -> None:
    tmp_path.mkdir(exist_ok=True)
    kinds = ["DRUG", "NAME"]
    changes: Settings = {"task": {"kind": "tag", "labels": kinds}, "columns": {"linked": []}}
    job = read_job(write_job(tmp_path / "job.toml", tiny_base, changes))
    rows = [
        {"text": f"note {n}", "spans": [{"start": 0, "end": 4, "label": kinds[n % 2]}] if n % 5 else []}
        for n in range(COUNT)
    ]
    path = tmp_path / "notes.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ask = Question(job=job, data=path, test=None, sites=3, partition="dirichlet:0.1")
    workspace = build(tmp_path / "work", ask)
    everywhere = [row for part in (*rows_at(workspace), *held_out(workspace)) for row in part]
    assert sorted(everywhere) == list(range(COUNT))
    # Each of the three groups (two kinds, and texts without any) is shared out by a draw of its own: hardly ever alike.
    groups = [-1 if n % 5 == 0 else n % 2 for n in range(COUNT)]
    shares = [Counter(groups[row] for row in part) for part in rows_at(workspace)]
    alike = build(tmp_path / "alike", replace(ask, partition="dirichlet:1000000"))
    even = [Counter(groups[row] for row in part) for part in rows_at(alike)]
    for group in (-1, 0, 1):
        assert max(share[group] for share in even) - min(share[group] for share in even) <= 2
    assert any(max(share[group] for share in shares) - min(share[group] for share in shares) > 5 for group in (0, 1))
    again = build(tmp_path / "again", ask)
    assert rows_at(again) == rows_at(workspace)
