"""The doctor: each thing that is wrong is found, named, and comes with what to do; what is right is said to be so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.config import read_site
from client.doctor import (
    CLOCK_S,
    DISK_BYTES,
    MEMORY_BYTES,
    Finding,
    examine,
    examine_data,
    examine_keys,
    examine_link,
    examine_modes,
    examine_roster,
    judge_certificate,
    judge_clock,
    judge_disk,
    judge_gpus,
    judge_grants,
    judge_memory,
    judge_server,
)
from client.keystore import PASSPHRASE_FILE, SYSTEMD_FOLDER, lock_keys
from client.roster import approve
from client.site import pin_coordinator
from privacy.sealing import Identity
from privacy.secagg import Roster
from protocol.link.certificates import read_certificate, validity
from protocol.secagg import roster_text
from tests.trust.world import DAY_S, SiteFolder, World, world_at

SECRET_TEXT = "Zebulon Quick"


def wrong(findings: list[Finding]) -> list[str]:
    for finding in findings:
        assert finding.ok or finding.mend, finding
        assert SECRET_TEXT not in finding.line()
    return [finding.what for finding in findings if not finding.ok]


def test_a_site_that_has_joined_and_is_well_has_nothing_to_mend(
    world: World, site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.joined(world)
    monkeypatch.setattr("client.doctor.DISK_BYTES", 1)
    findings = [each for each in examine(site.home, site.clock) if each.what not in ("disk", "memory")]
    assert wrong(findings) == []
    seen = [finding.what for finding in findings]
    assert seen == [
        "site.toml",
        "modes",
        "keys",
        "grants",
        "data set records",
        "roster",
        "GPU",
        "membership",
        "certificate",
        f"address 127.0.0.1:{world.link_port}",
        "TLS",
        f"address {world.address}",
        "TLS",
        "clock",
    ]


def test_without_site_toml_that_is_the_one_finding(tmp_path: Path) -> None:
    (finding,) = examine(tmp_path, lambda: 0.0)
    assert (finding.what, finding.ok) == ("site.toml", False) and "init" in finding.line()


def test_a_site_toml_that_cannot_be_read_is_to_be_mended_and_not_made_anew(site: SiteFolder) -> None:
    (site.home / "site.toml").write_text("id = ")
    (finding,) = examine(site.home, lambda: 0.0)
    assert not finding.ok and finding.mend.startswith("mend it; `cloister-site init` in another folder")


def test_a_site_that_has_not_joined_is_told_to(site: SiteFolder) -> None:
    (finding,) = examine_link(site.home, site.clock)
    assert not finding.ok and finding.mend == f"`cloister-site join {site.home} TOKEN`"


def test_a_pinned_coordinator_without_membership_is_no_fault_and_one_that_cannot_be_read_is(site: SiteFolder) -> None:
    public = Identity.generate().public()
    pin_coordinator(site.home, public)
    (finding,) = examine_link(site.home, site.clock)
    assert finding.ok and public.fingerprint() in finding.found and "Flower" in finding.mend
    (site.home / "keys" / "coordinator.pub").write_text("no keys")
    (finding,) = examine_link(site.home, site.clock)
    assert not finding.ok and "coordinator.pub" in finding.found and "pin --replace" in finding.mend


@pytest.mark.parametrize("name", ["identity.key", "site.secret"])
def test_a_key_that_is_lost_is_found(site: SiteFolder, name: str) -> None:
    assert wrong(list(examine_keys(site.home))) == []
    (site.home / "keys" / name).unlink()
    assert wrong(list(examine_modes(site.home))) == []
    (finding,) = examine_keys(site.home)
    assert not finding.ok and name in finding.found and "keys rotate" in finding.mend
    assert "keys" in wrong(examine(site.home, site.clock))


def test_a_damaged_key_is_found_and_not_shown(site: SiteFolder) -> None:
    path = site.home / "keys" / "identity.key"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    (finding,) = examine_keys(site.home)
    assert not finding.ok and data.hex()[40:60] not in finding.line()


def test_locked_keys_are_pointed_out_and_a_passphrase_that_opens_none_is_found(
    site: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    monkeypatch.delenv(SYSTEMD_FOLDER, raising=False)
    lock_keys(site.home, b"correct horse battery")
    findings = list(examine_keys(site.home))
    assert [each.ok for each in findings] == [True, True] and all("locked" in each.found for each in findings)
    path = site.home.parent / "passphrase"
    path.touch(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))
    for words, expected in ((b"correct horse battery", []), (b"another passphrase", ["keys", "keys"])):
        path.write_bytes(words)
        assert wrong(list(examine_keys(site.home))) == expected


def test_a_roster_that_waits_or_names_other_keys_is_found_and_none_is_pointed_out(site: SiteFolder) -> None:
    config, public = read_site(site.home), Identity.generate().public()
    (site.home / "keys" / "site.pub").write_text(site.public.to_text())

    def seen() -> Finding:
        (finding,) = examine_roster(site.home, config)
        wrong([finding])
        return finding

    assert seen().ok and "declined until" in seen().mend
    offer = Roster(1, {config.id: site.public, "ward-8": public})
    (site.home / "state" / "roster.proposed.json").write_text(roster_text(offer))
    assert not seen().ok and seen().found == "waits for approval: ward-7 (added), ward-8 (added)"
    approve(site.home, offer)
    assert seen().ok and seen().found == "2 sites approved, epoch 1"
    approve(site.home, Roster(2, {config.id: public}))
    assert not seen().ok and "other keys" in seen().found
    (site.home / "keys" / "roster.json").write_text("no roster")
    assert not seen().ok


def test_a_coordinator_that_is_away_is_found_at_both_addresses(world: World, site: SiteFolder) -> None:
    site.joined(world)
    world.stop()
    assert wrong(list(examine_link(site.home, site.clock))) == [
        f"address 127.0.0.1:{world.link_port}",
        f"address {world.address}",
    ]


def test_attack_an_impostor_at_the_address_is_found(world: World, site: SiteFolder, tmp_path: Path) -> None:
    site.joined(world)
    with world_at(tmp_path, "impostor") as impostor:
        path = site.home / "keys" / "membership.json"
        value = json.loads(path.read_text()) | {"enrolment_address": impostor.address}
        path.write_text(json.dumps(value))
        found = [each for each in examine_link(site.home, site.clock) if not each.ok]
    assert [each.what for each in found] == ["TLS", "enrolment"] and "operator" in found[0].mend


@pytest.mark.parametrize(("days", "side"), [(1.2, "ahead"), (-1.2, "behind")])
def test_a_clock_that_is_off_by_a_day_is_found_though_tls_holds_or_not(
    world: World, site: SiteFolder, days: float, side: str
) -> None:
    site.joined(world)
    site.clock.offset = days * DAY_S
    findings = list(examine_link(site.home, site.clock))
    assert set(wrong(findings)) == {"certificate", "clock"}
    assert all(side in each.found for each in findings if each.what == "clock")
    last = [each for each in findings if each.what == "clock"][-1]
    assert f"{abs(days) * DAY_S:.0f}"[:4] in last.found


def test_the_clock_is_judged_from_the_servers_certificate_where_nothing_else_can_be_had(world: World) -> None:
    authority = world.trust.authority
    shown = read_certificate(authority.server_pair()[1])
    start, end = validity(shown)
    for now, expected in ((start, []), (end, []), (start - 1, ["clock"]), (end + 1, ["clock"])):
        assert wrong(list(judge_server(shown, authority.certificate, now))) == expected
    (far,) = [each for each in judge_server(shown, authority.certificate, end + 7200) if not each.ok]
    assert "2.0 h ahead" in far.found


@pytest.mark.parametrize(
    ("difference", "uncertainty", "ok"),
    [
        (0, 0, True),
        (CLOCK_S, 0, True),
        (-CLOCK_S, 0, True),
        (61, 0, False),
        (-61, 0, False),
        (61, 2, True),
        (86400, 5, False),
        (-86400, 5, False),
    ],
)
def test_a_clock_may_be_off_by_a_minute_and_the_questions_own_time(
    difference: float, uncertainty: float, ok: bool
) -> None:
    finding = judge_clock(difference, uncertainty)
    assert finding.ok is ok and bool(finding.mend) is not ok


def test_a_certificates_life(world: World, site: SiteFolder) -> None:
    certificate = site.joined(world).certificate
    start, end = validity(certificate)
    life = end - start
    for part, ok in ((0.0, True), (0.5, True), (0.75, True), (0.9, False), (1.0, False), (1.1, False), (-0.1, False)):
        assert judge_certificate(certificate, start + part * life).ok is ok, part
    assert "ran out 24.0 h ago" in judge_certificate(certificate, end + DAY_S).found


@pytest.mark.parametrize("judge", [judge_disk, judge_memory])
def test_room(judge: object) -> None:
    assert callable(judge)
    needed = DISK_BYTES if judge is judge_disk else MEMORY_BYTES
    assert judge(needed).ok and not judge(needed - 1).ok and not judge(0).ok
    assert f"{needed / 2**30:.1f} GiB" in judge(0).mend


def test_no_gpu_is_no_fault() -> None:
    assert judge_gpus([]).ok and "CPU" in judge_gpus([]).found
    assert "H200" in judge_gpus(["NVIDIA H200"]).found


def test_key_files_that_others_may_read_are_found_each(site: SiteFolder) -> None:
    assert wrong(list(examine_modes(site.home))) == []
    (site.home / "keys" / "identity.key").chmod(0o644)
    (site.home / "keys").chmod(0o750)
    found = [each for each in examine_modes(site.home) if not each.ok]
    assert [each.found.split()[0] for each in found] == ["keys", "keys/identity.key"]
    assert found[0].mend.startswith("chmod 700") and found[1].mend.startswith("chmod 600")


def test_grants_that_name_no_data_set_are_wrong_and_weak_ones_are_pointed_out(site: SiteFolder) -> None:
    path = site.home / "site.toml"
    text = path.read_text()
    path.write_text(text.replace('data = "records"', 'data = "others"'))
    assert wrong(list(judge_grants(read_site(site.home)))) == ["grants"]
    weak = text.replace("without_privacy = false", "without_privacy = true").replace(
        'profile = "hipaa-safe-harbor"', 'profile = "none"'
    )
    path.write_text(weak)
    findings = list(judge_grants(read_site(site.home)))
    assert [each.ok for each in findings] == [True] * 3 and all(each.mend for each in findings[1:])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (f"note,label\n{SECRET_TEXT},good\n", "text"),
        (f"text\n{SECRET_TEXT}\n", "label"),
        ("text,label\n", "no row"),
        ("", "empty"),
        (None, "records.csv"),
    ],
)
def test_data_that_cannot_be_used_is_named_and_not_shown(site: SiteFolder, content: str | None, word: str) -> None:
    path = site.home.parent / "records.csv"
    path.unlink()
    if content is not None:
        path.write_text(content)
    (finding,) = examine_data(site.home, read_site(site.home))
    assert not finding.ok and word in finding.found and SECRET_TEXT not in finding.line()


def test_a_damaged_membership_is_found(world: World, site: SiteFolder) -> None:
    site.joined(world)
    (site.home / "keys" / "link.pem").write_bytes(b"x")
    assert wrong(list(examine_link(site.home, site.clock))) == ["membership"]
