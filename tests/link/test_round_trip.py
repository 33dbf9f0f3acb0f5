"""A round over the link: undisturbed, and where disks are full, payloads damaged, certificates renewed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import psutil
import pytest

from protocol.link.counters import Count
from protocol.link.flower import node_of
from protocol.link.terms import Failure
from server.link.presence import Presence
from server.link.serve import link_folder
from server.link.states import State
from tests.link.light import answer_to, calls
from tests.link.pki import write_tls
from tests.link.proxy import Proxy
from tests.link.world import MIB, a_world, content, free_port, push, replies, sealed_request, wait_until


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


def test_a_full_disk_at_the_site_is_a_refusal_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        task = push(grid, "site-a", sealed_request(MIB))

        def full(_folder: Path, _size: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("client.link.transfers.check_room", full)
        world.daemon("site-a", server.port)
        assert replies(grid, [task])[task].error.code == Failure.DISK
        assert calls(world.home("site-a")) == []


def test_a_full_disk_at_the_coordinator_is_waited_out_and_the_answer_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, grid, sealed = world.server(), world.grid(), sealed_request(MIB)
        room = [False]

        def full(_folder: Path, _size: int) -> None:
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("server.link.service.check_room", full)
        task = push(grid, "site-a", sealed)
        world.daemon("site-a", server.port)
        wait_until(lambda: server.running.counters.value(Count.REFUSALS, "disk") >= 2)
        room[0] = True
        assert content(replies(grid, [task])[task]) == answer_to("site-a", sealed)
        assert calls(world.home("site-a")) == ["run-1 1 1"]


def test_a_request_that_never_arrives_as_announced_is_given_up_by_name(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        task = push(grid, "site-a", sealed_request(MIB))
        path = world.store().files.request(task)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        world.daemon("site-a", server.port)
        assert replies(grid, [task])[task].error.code == Failure.DAMAGED
        assert calls(world.home("site-a")) == []


def test_a_task_that_is_withdrawn_ends_at_the_site_while_it_is_worked_on(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        (world.home("site-a") / "hold").touch()
        server, grid = world.server(), world.grid()
        daemon = world.daemon("site-a", server.port)
        task = push(grid, "site-a", sealed_request(MIB))
        wait_until(lambda: calls(world.home("site-a")))
        worker = psutil.Process(daemon.worker_pid)
        grid.withdraw([task])
        wait_until(lambda: not worker.is_running())
        wait_until(lambda: not any((world.home("site-a") / "link" / "tasks").iterdir()))
        assert world.store().task(task).state is State.EXPIRED


def test_a_renewed_certificate_is_used_on_a_new_connection_and_nothing_is_lost(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        server, grid = world.server(), world.grid()
        proxy = Proxy(target=server.port)
        world.daemon("site-a", proxy.port)
        wait_until(lambda: list(grid.get_node_ids()))
        before = proxy.connections
        write_tls(world.root / "pki" / "site-a", world.authority.site("site-a"))
        write_tls(world.root / "pki" / "server", world.authority.server())
        wait_until(lambda: proxy.connections > before)
        sealed = sealed_request(MIB)
        task = push(grid, "site-a", sealed)
        assert content(replies(grid, [task])[task]) == answer_to("site-a", sealed)
        proxy.close()


def test_how_far_a_site_is_can_be_seen_at_the_coordinator(tmp_path: Path) -> None:
    with a_world(tmp_path, "site-a") as world:
        hold = world.home("site-a") / "hold"
        hold.touch()
        server, grid = world.server(), world.grid()
        world.daemon("site-a", server.port)
        task = push(grid, "site-a", sealed_request(MIB))
        presence = Presence(link_folder(world.coordinator))
        wait_until(lambda: presence.progress("run-1"))
        (progress,) = presence.progress("run-1")
        assert (progress.site, progress.round, progress.doing) == ("site-a", 1, "train")
        assert (progress.done, progress.total) == (3, 4)
        presence.close()
        hold.unlink()
        replies(grid, [task])


@pytest.mark.full
def test_a_model_of_440_mb_goes_both_ways_with_bounded_memory_in_the_processes_that_stay(tmp_path: Path) -> None:
    """The server and the daemon hold some blocks of 1 MiB, whatever the payload's size; workers are not counted."""
    with a_world(tmp_path, "site-a") as world:
        port = free_port()
        world.start("server", "server", port)
        world.start("site", "site", "site-a", port)
        grid = world.grid()
        wait_until(lambda: list(grid.get_node_ids()))
        before = {name: peak(process.pid) for name, process in world.processes.items()}
        sealed = sealed_request(440_000_000)
        task = push(grid, "site-a", sealed)
        assert content(replies(grid, [task], deadline_s=600)[task]) == answer_to("site-a", sealed)
        for name, process in world.processes.items():
            assert peak(process.pid) - before[name] < 64 * MIB, name


def peak(pid: int) -> int:
    """The peak resident size of a process, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
