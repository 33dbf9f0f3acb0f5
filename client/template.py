"""The commented `site.toml` that `cloister-site init` writes, made from the fields of the grants."""

from __future__ import annotations

from dataclasses import dataclass

from client.config import AcceptSection, AnonymisationSection, DataSection, PrivacySection, SecAggSection
from protocol.template import comment_lines, section_lines, toml_value

_TITLE = (
    "What this site grants to jobs. The site's administrator decides; no job can change it. "
    "A line that is missing means the safe choice."
)
_COLUMNS = (
    "The site's own column names by role. A role that is not here has the name that the job gives it. "
    "linked: the columns of the record's own identifiers (name, number, phone), hidden wherever its text repeats them."
)


@dataclass(frozen=True, kw_only=True)
class NewSite:
    """What an administrator says of a new site; a column that is empty has the name that a job gives it, and an epsilon
    that is None the default.
    """

    id: str
    data: str
    published_size: int
    text: str = ""
    label: str = ""
    unit: str = ""
    epsilon: float | None = None


def site_template(site: NewSite) -> str:
    """A complete `site.toml`: every grant with its default and its description."""
    data_set = AcceptSection().data
    lines = [*comment_lines(_TITLE), "", *comment_lines("the site's id, as the coordinator's roster names it")]
    lines.append(f"id = {toml_value(site.id)}")
    lines += section_lines("accept", AcceptSection, {})
    lines += section_lines("privacy", PrivacySection, {} if site.epsilon is None else {"epsilon": site.epsilon})
    lines += section_lines("secagg", SecAggSection, {})
    lines += section_lines("anonymisation", AnonymisationSection, {})
    own = {"path": site.data, "published_size": site.published_size}
    lines += section_lines(f"data.{data_set}", DataSection, own)
    lines += ["", *comment_lines(_COLUMNS), f"[data.{data_set}.columns]"]
    for role in ("text", "label", "unit"):
        name = getattr(site, role)
        lines.append(f"{role} = {toml_value(name)}" if name else f'# {role} = "..."')
    lines += ['# spans = "..."', '# linked = ["..."]']
    return "\n".join([*lines, ""])
