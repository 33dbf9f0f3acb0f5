"""The people's side over real processes: approval and hours at a site, a person far away, the model handed out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from client.cli import main as site_main
from protocol.eventlog import read_events
from server.cli import main
from server.link.contexts import FOLDER_VARIABLE
from server.link.runs import RunState
from simulations import up as ups
from tests.simulations.test_up import DEADLINE_S, Scene, scene
from tests.tiny_base import TinyBase


@pytest.mark.full
def test_a_job_is_approved_watched_from_far_away_and_its_model_handed_out(
    tmp_path: Path, tiny_base: TinyBase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "config"))
    original = ups._enrol

    def enrol(trust, site, home, address):
        original(trust, site, home, address)
        if site == "site-02":
            grants = home / "site.toml"
            text = grants.read_text()
            assert "[accept]" in text
            grants.write_text(text.replace("[accept]\n", "[accept]\napproval = true\n", 1))

    monkeypatch.setattr(ups, "_enrol", enrol)
    said: dict[str, str] = {}

    def act(found: Scene) -> None:
        csr, pem = tmp_path / "r.csr", tmp_path / "r.pem"
        address = json.loads((found.home / ups.SERVING_FILE).read_text())["link"]
        assert main(["context", "request", "far", str(csr)]) == 0
        assert main(["access", "grant", str(found.home), "researcher", "ada", str(csr), str(pem)]) == 0
        assert main(["context", "add", "far", "--address", address, "--certificate", str(pem)]) == 0

        def shown() -> str:
            capsys.readouterr()
            assert main(["job", "show", "@far", found.run]) == 0
            return capsys.readouterr().out

        found.until(lambda: "site-02: waiting for approval" in shown())
        home = found.home.parent / "sites" / "site-02"
        assert found.runs.status(found.run).round == 0 and not list((home / "state").glob("cache/*"))
        assert site_main(["jobs", "approve", str(home), found.run, "--note", "vote 12"]) == 0
        assert main(["job", "watch", "@far", found.run]) == 0
        said["watch"] = capsys.readouterr().out
        assert found.runs.status(found.run).state is RunState.COMPLETE
        assert main(["model", "export", "@far", found.run, str(tmp_path / "exported")]) == 0
        assert site_main(["model", "fetch", str(home), found.run]) == 0
        fetched = home / "models" / found.run / "model" / "model.safetensors"
        assert fetched.read_bytes() == (tmp_path / "exported" / "model" / "model.safetensors").read_bytes()
        (tmp_path / "texts").write_text("chest pain\n")
        assert site_main(["model", "predict", str(home), found.run, str(tmp_path / "texts")]) == 0
        actions = [event.action for event in read_events(home / "state" / "events.jsonl")]
        assert [each for each in actions if each.startswith(("job", "model"))] == [
            "job.wait",
            "job.approve",
            "job.take",
            "model.fetch",
        ]

    began = time.monotonic()
    assert scene(tmp_path, tiny_base, act)["status"] == "complete"
    assert time.monotonic() - began < 4 * DEADLINE_S
    assert "replied, site-02" in said["watch"]
