"""What the coordinator keeps of prekeys: one round's secret at a time, and each site's prekeys, used once."""

import json

import pytest

from privacy.errors import ConfigError, ProtocolError
from privacy.sealing import Prekey
from protocol.addressing import request_context
from server.prekeys import SECRET_FILE, RoundSecrets, SitePrekeys, forget_secrets

PREKEYS = [Prekey.generate().public() for _ in range(3)]


def place(number, sequence=1):
    return request_context(run="r", round_number=number, site="a", sequence=sequence, kind="train")


def test_a_place_has_one_prekey_until_its_round_is_over():
    secrets = RoundSecrets()
    first = secrets.prekey(place(1)).public()
    assert secrets.prekey(place(1)).public() == first
    assert secrets.prekey(place(1, 2)).public() != first
    secrets.over(1)
    assert secrets.prekey(place(1)).public() != first


@pytest.mark.parametrize("over", [0, 1, 2])
def test_a_round_is_over_with_its_own_account_or_a_later_one(tmp_path, over):
    secrets = RoundSecrets(tmp_path)
    first = secrets.prekey(place(1)).public()
    secrets.over(over)
    assert (tmp_path / SECRET_FILE).exists() is (over < 1)
    assert (RoundSecrets(tmp_path).prekey(place(1)).public() == first) is (over < 1)


def test_the_first_request_of_another_round_ends_the_one_before(tmp_path):
    secrets = RoundSecrets(tmp_path)
    before = secrets.prekey(place(1)).public()
    kept = (tmp_path / SECRET_FILE).read_bytes()
    secrets.prekey(place(2))
    assert kept[-32:] not in (tmp_path / SECRET_FILE).read_bytes()
    assert secrets.prekey(place(1)).public() != before


def test_a_process_that_is_started_again_has_the_same_prekeys_and_one_that_asks_anew_has_others(tmp_path):
    first = RoundSecrets(tmp_path, 3).prekey(place(1)).public()
    assert RoundSecrets(tmp_path, 3).prekey(place(1)).public() == first
    anew = RoundSecrets(tmp_path, 4)
    assert not (tmp_path / SECRET_FILE).exists()
    assert anew.prekey(place(1)).public() != first


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"x", lambda data: b"x" + data]
)
def test_a_damaged_secret_is_made_anew(tmp_path, damage):
    first, path = RoundSecrets(tmp_path).prekey(place(1)).public(), tmp_path / SECRET_FILE
    path.write_bytes(damage(path.read_bytes()))
    assert RoundSecrets(tmp_path).prekey(place(1)).public() != first


def test_a_run_that_is_over_has_no_secret(tmp_path):
    forget_secrets(tmp_path)
    RoundSecrets(tmp_path).prekey(place(1))
    forget_secrets(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_sites_prekeys_are_used_in_order_and_once_and_the_last_one_to_ask_for_more():
    sites = SitePrekeys()
    with pytest.raises(ProtocolError, match="announced"):
        sites.take("a")
    sites.announced("a", PREKEYS[:2])
    assert [sites.take("a") for _ in range(4)] == [
        (PREKEYS[0], True), (PREKEYS[1], True), (PREKEYS[1], False), (PREKEYS[1], False),
    ]  # fmt: skip
    with pytest.raises(ProtocolError):
        sites.take("b")
    sites.announced("a", PREKEYS[1:])
    assert sites.take("a") == (PREKEYS[1], True)


def test_what_sites_have_announced_outlasts_a_restart():
    sites = SitePrekeys()
    sites.announced("a", PREKEYS)
    sites.announced("b", PREKEYS[:1])
    sites.take("a"), sites.take("b")
    again = SitePrekeys.of(json.loads(json.dumps(sites.values())))
    assert again.take("a") == (PREKEYS[1], True) and again.take("b") == (PREKEYS[0], False)


@pytest.mark.parametrize(
    "values",
    [[], {"a": []}, {"a": {}}, {"a": {"unspent": ["!"], "last": []}}, {"a": {"unspent": ["AAAA"], "last": []}}],
)
def test_damaged_prekeys_are_no_account(values):
    with pytest.raises(ConfigError):
        SitePrekeys.of(values)
