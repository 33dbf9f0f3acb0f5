"""`cloister-site budget`: what was spent, on what, what is left, what a job would cost; and going on after a loss."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from client.config import DataSection, SiteConfig, read_site
from privacy.errors import BudgetError, ConfigError
from protocol.console import answer


def add_budget_options(parser: Any) -> None:
    """The options of `cloister-site budget`."""
    parser.add_argument("--job", type=Path, help="a job file: say what it would cost; exit code 7 if that is too much")
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="go on with a ledger that was found damaged or set back: count every charge that any of its files knows",
    )


def run_budget(arguments: argparse.Namespace) -> int:
    """Print what was spent, from the ledger, against the site's limit.

    Raises: BudgetError when the ledger is not whole; ConfigError for `--accept-loss` on a whole one.
    """
    from client.budget import budget_of, quote
    from client.charging import accept_loss
    from client.sums_quote import quote_sums
    from protocol.job import read_job

    home, config = arguments.dir, read_site(arguments.dir)
    job = read_job(arguments.job) if arguments.job is not None else None
    lines: list[str] = []
    values: dict[str, object] = {}
    if arguments.accept_loss:
        accepted = accept_loss(home)
        values["accepted"] = {
            "finding": accepted.finding, "charges": accepted.charges, "brought_back": accepted.brought_back,
        }  # fmt: skip
        lines.append(
            f"accepted: {accepted.finding}; {accepted.charges} charges count from now on, {accepted.brought_back} of "
            "them were not in its rows"
        )
    spent = [budget_of(home, config, name) for name in sorted({config.accept.data, *config.data})]
    values["data"] = {each.data: each.values() for each in spent}
    lines += [line for each in spent for line in each.lines()]
    too_much = False
    if job is not None and job.privacy.enabled:
        cost = quote(home, config, _section(home, config), job)
        values["job"], too_much = cost.values(), not cost.fits
        lines += cost.lines()
    elif job is not None:
        values["job"] = None
        counted = "counts its sums alone" if job.noise.enabled else "does not count it"
        lines.append(f"job {job.name} trains without differential privacy: the ledger {counted}")
    if job is not None and job.noise.enabled:
        sums = quote_sums(home, config, job)
        values["job_sums"], too_much = sums.values(), too_much or not sums.fits
        lines += sums.lines()
    answer(arguments, values, lines)
    return BudgetError.exit_code if too_much else 0


def _section(home: Path, config: SiteConfig) -> DataSection:
    section = config.data.get(config.accept.data)
    if section is None:
        raise ConfigError(f"{home}: accept.data", expected="the name of a data set", found=config.accept.data)
    return section
