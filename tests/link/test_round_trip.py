"""A round over the link, undisturbed."""

from __future__ import annotations

from pathlib import Path

from protocol.link.flower import node_of
from tests.link.light import answer_to, calls
from tests.link.world import MIB, a_world, content, push, replies, sealed_request, wait_until


def test_two_sites_get_their_requests_and_the_run_their_answers(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a", "site-b") as world:
        server, grid = world.server(), world.grid()
        for site in ("site-a", "site-b"):
            world.daemon(site, server.port)
        wait_until(lambda: len(list(grid.get_node_ids())) == 2)
        assert set(grid.get_node_ids()) == {node_of("site-a"), node_of("site-b")}
        sent = {site: sealed_request(3 * MIB + 17, site=site) for site in ("site-a", "site-b")}
        tasks = {site: push(grid, site, data) for site, data in sent.items()}
        found = replies(grid, list(tasks.values()))
        for site, task in tasks.items():
            assert content(found[task]) == answer_to(site, sent[site])
            assert found[task].metadata.src_node_id == node_of(site)
            assert calls(world.home(site)) == ["run-1 1 1"]
        grid.settle()
        assert list((world.coordinator / "link" / "payloads").iterdir()) == []
        wait_until(lambda: not any((world.home("site-a") / "link" / "tasks").iterdir()))
