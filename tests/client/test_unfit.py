"""A model that cannot be trained privately costs nothing: it is refused before the charge, and no record is read."""

import hashlib
import shutil

import pytest

from protocol.messages import TRAIN, Order
from tests.client.lone import PRIVATE, SITE, lone, outcome_of, state_of
from tests.federation import RUN
from tests.tiny_base import TinyBase


@pytest.fixture(scope="module")
def mpnet(tmp_path_factory, tiny_base):
    """A random MPNet with the tokeniser of the tiny BERT."""
    import torch
    from transformers import MPNetConfig, MPNetModel

    folder = tmp_path_factory.mktemp("mpnet")
    shutil.copytree(tiny_base.folder, folder, dirs_exist_ok=True)
    torch.manual_seed(7)
    config = MPNetConfig(
        vocab_size=43, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=66,
    )  # fmt: skip
    MPNetModel(config, add_pooling_layer=False).save_pretrained(folder)
    return TinyBase(folder, hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def asked_round(federation):
    return outcome_of(federation.ask(SITE, TRAIN, Order(run=RUN, job=federation.job.canonical(), round=1), {}))


def test_a_model_whose_layers_are_not_fed_records_is_refused_before_the_charge_and_no_record_is_read(tmp_path, mpnet):
    """The data file is gone: whoever opened it would fail with another refusal."""
    job = {**PRIVATE, "model": {"tune": "full"}}
    federation = lone(tmp_path, mpnet, job=job)
    federation.greet()
    (federation.home(SITE) / "data.csv").unlink()
    before = state_of(federation)
    said = asked_round(federation)
    assert (said.code, said.status) == ("failed", "refused")
    assert "encoder.encoder.relative_attention_bias.weight" in said.reason
    assert federation.charges(SITE) == ()
    assert state_of(federation) == before


def test_the_same_base_with_adapters_alone_is_charged_and_goes_on(tmp_path, mpnet):
    federation = lone(tmp_path, mpnet, job={**PRIVATE, "model": {"tune": "lora"}})
    federation.greet()
    assert asked_round(federation).code == "protocol"  # the request has no model
    assert [(c.round, c.attempt) for c in federation.charges(SITE)] == [(1, 0)]


def test_without_privacy_any_model_is_trained(tmp_path, mpnet):
    job = {"model": {"tune": "full"}, "federation": {"rounds": 2, "min_sites": 1}}
    federation = lone(tmp_path, mpnet, job=job)
    federation.greet()
    assert asked_round(federation).code == "protocol"
