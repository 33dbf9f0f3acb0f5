"""`cloister audit step`: what it prints, and that a step without noise is found out."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest
import torch

from privacy.errors import BudgetError, ConfigError
from protocol.console import run_command
from simulations.audit_command import register


def test_the_command_is_there_without_loading_torch() -> None:
    code = "import sys, simulations.audit_command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def audit(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="cloister")
    register(parser.add_subparsers())
    return run_command(parser, ["audit", "step", "--rate", "1", "--steps", "1", *words])


def test_the_result_is_the_claim_what_was_proved_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("--trials", "120", "--processes", "1", "--json") == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["claimed_epsilon"] == pytest.approx(8.0, abs=0.01)
    assert 0 <= result["proved_epsilon"] <= result["claimed_epsilon"]
    assert (result["trials"], result["confidence"], result["holds"]) == (96, 0.99, True)
    assert "120 of 120" in output.err


def test_a_step_without_noise_breaks_the_claim_and_leaves_with_the_budgets_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(_self: object, count: int, device: torch.device) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64, device=device)

    monkeypatch.setattr("privacy.dp.noise.Normals.draw", silence)
    assert audit("--trials", "200", "--processes", "1") == BudgetError.exit_code
    assert "THE CLAIM IS BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--trials", "99"], ["--confidence", "1"], ["--processes", "-1"], ["--rate", "0"]])
def test_senseless_questions_are_refused_before_a_game_is_played(words: list[str]) -> None:
    assert audit(*words) == ConfigError.exit_code


def test_an_audit_on_two_processes_plays_every_game_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("--trials", "120", "--processes", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 96
