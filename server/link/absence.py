"""What a run can say of a site that has not answered it: its name, and what it was last seen to wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from protocol.console import moment
from protocol.link.flower import node_of
from protocol.messages import Refusal
from server.greeting import absent_node
from server.link.presence import Presence, SiteProgress
from server.record import Drop

APPROVAL_KEY = "runs.approval_hours"
"""Of `coordinator.toml`."""


class Absences:
    """The sites behind the nodes of a greeting over the link, which waits `waited_s` seconds for each."""

    def __init__(self, presence: Presence, run: str, sites: Collection[str], waited_s: float) -> None:
        self._presence, self._run, self._waited_s = presence, run, waited_s
        self._names = {node_of(site): site for site in sites}

    def absent(self, node: int) -> Drop:
        """A site that was asked and has not answered in time."""
        site = self._names.get(node)
        if site is None:
            return absent_node(node)
        found = next((each for each in self._presence.progress(self._run) if each.site == site), None)
        return Drop(site=site, code=Refusal.ABSENT, reason=self._reason(found))

    def missing(self, nodes: Collection[int]) -> Iterator[Drop]:
        """The sites that were not asked, since they had not called lately."""
        seen = {each.site: each.seen for each in self._presence.sites()}
        for node, site in sorted(self._names.items(), key=lambda item: item[1]):
            if node not in nodes:
                last = f"last called {moment(seen[site])} UTC" if seen.get(site) else "has not called"
                reason = f"it {last}; `cloister-site doctor` there says why"
                yield Drop(site=site, code=Refusal.ABSENT, reason=reason)

    def _reason(self, progress: SiteProgress | None) -> str:
        limit = f"no answer within {APPROVAL_KEY} = {self._waited_s / 3600:g}"
        if progress is None or not progress.waits:
            return limit
        return f"{progress.doing} since {moment(progress.since)} UTC; {limit}; resume the run when the site is ready"
