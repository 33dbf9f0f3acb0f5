"""What a site tells of its progress while it is at a round: the steps of the plan, and no number of its records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flwr.app import Message, RecordDict

from client.link.progress import report_of
from protocol.link.flower import node_of
from protocol.messages import ARRAYS, CONFIG, HELLO, TRAIN, Order
from protocol.payload import arrays_record
from server.link.presence import Presence, SiteProgress
from server.sealing import SealingGrid
from server.window import WindowGrid
from tests.client.lone import outcome_of
from tests.federation import write_records
from tests.link.real import a_scene
from tests.link.staged import LONGEST_TEXT, STAGES
from tests.link.world import RUN, wait_until
from tests.tiny_base import TinyBase

RECORDS, WITHHELD = 31, 4
SITE = "site-01"


def test_no_number_of_records_and_none_of_withheld_ones_leaves_in_a_report(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[SiteProgress] = []
    kept = Presence.progressed

    def progressed(presence: Presence, progress: SiteProgress) -> None:
        told.append(progress)  # all that reports come to at the coordinator
        kept(presence, progress)

    monkeypatch.setattr(Presence, "progressed", progressed)
    monkeypatch.setattr("client.link.progress.REPORT_EVERY_S", 0.0)
    job = {"federation": {"min_sites": 1}, "training": {"validation": 0.0, "test": 0.0}}
    with a_scene(tmp_path, tiny_base, job=job, app="tests.link.staged:make_app") as scene:
        federation, home = scene.federation, scene.federation.home(SITE)
        federation.grant(SITE, {"accept": {"min_sites": 1}, "anonymisation": {"profile": "hipaa-safe-harbor"}})
        rows = [{"text": f"calm note {number}", "label": ("calm", "ill")[number % 2]} for number in range(RECORDS)]
        for row in rows[:WITHHELD]:
            row["text"] += " and more" * LONGEST_TEXT
        write_records(home / "data.csv", rows)
        scene.daemon(SITE)
        grid = scene.world.grid()
        wait_until(lambda: list(grid.get_node_ids()))
        sealed = SealingGrid(WindowGrid(grid, 8), run=RUN, identity=federation.identity, roster=federation.roster)

        def ask(kind: str, number: int, **records: object) -> Message:
            order = Order(run=RUN, job=federation.job.canonical(), round=number).record()
            content = RecordDict({CONFIG: order, **records})  # type: ignore[dict-item]
            (reply,) = sealed.send_and_receive([Message(content, dst_node_id=node_of(SITE), message_type=kind)])
            return reply

        with ThreadPoolExecutor(1) as pool:
            assert not ask(HELLO, 0).has_error()
            answer = pool.submit(ask, TRAIN, 1, **{ARRAYS: arrays_record(federation.first_model())})
            for stage in STAGES:
                wait_until(lambda stage=stage: scene.doing(SITE) == stage or answer.done())  # type: ignore[misc]
                (home / f"seen-{stage}").touch()
            assert outcome_of(answer.result()).status == "done"
    noted = {line.split()[0]: line.split()[1:] for line in (home / "noted").read_text().splitlines()}
    assert noted["anonymise"] == [str(RECORDS)] * 2  # the site's own note has them
    assert noted["tokenise"] == noted["encode"] == [str(RECORDS - WITHHELD)] * 2
    reports = [(each.doing, each.done, each.total) for each in told if each.round and each.doing in STAGES]
    steps = federation.job.steps_per_round(20)
    assert ("train", steps, steps) in reports
    assert {each for each in reports if each[0] != "train"} == {(stage, 0, 0) for stage in STAGES if stage != "train"}
    assert len([each for each in reports if each[0] == "anonymise"]) == 1  # how often it is told counts nothing either


@pytest.mark.parametrize("stage", ["anonymise", "tokenise", "encode", "a stage to come"])
def test_numbers_of_any_stage_but_the_training_are_left_out(stage: str) -> None:
    report = report_of("t", {"round": 2, "stage": stage, "done": 7, "total": 29})
    assert (report.round, report.doing, report.done, report.total) == (2, stage, 0, 0)
