"""Taggers and Presidio beside the rules: their spans are in the union, and their faults withhold the document."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from client.anonymise_presidio import PresidioDetector, pattern_recognisers
from client.anonymise_tagger import Tagger, kind_of_label, plain
from client.config import read_site
from privacy.anonymise import Anonymiser, Kind, Page, load_profile
from privacy.errors import AnonymiseError, ConfigError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "quux", "felt", "well", "fnord", "ward", "##ly"]
LABELS = {0: "O", 1: "B-PATIENT", 2: "I-PATIENT", 3: "B-HOSPITAL"}


def make_tagger(folder: Path, labelled: dict[str, int], positions: int = 64) -> Path:
    """A real BERT of no layers whose weights are set by hand: each word has the label that it is given."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": positions})
    )
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4,
        max_position_embeddings=positions, num_labels=len(LABELS), id2label=LABELS, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        for index, word in enumerate(WORDS):
            model.bert.embeddings.word_embeddings.weight[index, index] = 10.0
            model.classifier.weight[labelled.get(word, 0), index] += 10.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    return Tagger(make_tagger(tmp_path / "t", {"quux": 1, "##ly": 2, "fnord": 3}))


def test_pieces_of_one_label_side_by_side_are_one_span(tagger: Tagger) -> None:
    spans = list(tagger.find(Page("quuxly quux felt well, fnord ward")))
    assert [(span.start, span.end, span.kind) for span in spans] == [(0, 11, Kind.NAME), (23, 28, Kind.ORGANISATION)]


def test_what_the_tagger_finds_is_hidden_in_union_with_the_rules(tagger: Tagger) -> None:
    anonymiser = Anonymiser(load_profile("strict"), None, extra=[tagger])
    assert anonymiser.redact("quux felt well, mail a@b.org").text == "[NAME] felt well, mail [EMAIL]"
    assert Anonymiser(load_profile("strict"), None).redact("quux felt well").text == "quux felt well"


def test_every_piece_of_a_text_longer_than_a_window_is_read(tagger: Tagger) -> None:
    text = "well " * 500 + "quux"
    assert [(span.start, span.end) for span in tagger.find(Page(text))] == [(2500, 2504)]
    for place in range(40, 90):
        text = "well " * place + "quux " + "well " * 60
        assert [span.start for span in tagger.find(Page(text))] == [5 * place]


def test_windows_overlap_so_that_an_identifier_at_an_edge_is_whole_in_one(tagger: Tagger) -> None:
    starts = [start for start, _, _ in tagger._pieces("quux " * 200)]
    assert set(starts) == set(range(0, 1000, 5))
    assert len(starts) > 230


def test_the_empty_page_has_no_span(tagger: Tagger) -> None:
    assert list(tagger.find(Page(""))) == list(tagger.find(Page(" \n"))) == []


def test_a_model_that_fails_withholds_the_document(tagger: Tagger) -> None:
    tagger._tokeniser = None
    with pytest.raises(AnonymiseError, match="'tagger'"):
        Anonymiser(load_profile("strict"), None, extra=[tagger]).redact("quux felt well")


def test_a_folder_without_a_tagger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token classifier .*; found one that transformers cannot read"):
        Tagger(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere; .*; found no such folder; check the path"):
        Tagger(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file; .*; found a file; check the path"):
        Tagger(tmp_path / "file")


@pytest.mark.parametrize(
    ("label", "kind"),
    [("B-PER", Kind.NAME), ("NOMBRE_SUJETO_ASISTENCIA", Kind.NAME), ("FECHAS", Kind.DATE), ("I-LOC", Kind.LOCATION),
     ("EDAD_SUJETO_ASISTENCIA", Kind.AGE), ("US_SSN", Kind.NATIONAL_ID), ("PHONE_NUMBER", Kind.PHONE),
     ("LABEL_3", Kind.OTHER), ("ORG", Kind.ORGANISATION), ("SEXO_SUJETO_ASISTENCIA", Kind.SEX)],
)  # fmt: skip
def test_labels_are_read_as_the_nearest_kind(label: str, kind: Kind) -> None:
    assert kind_of_label(plain(label)) is kind


class Recognises:
    """A recogniser with Presidio's interface."""

    name = "fnords"
    supported_entities = ["PERSON"]  # noqa: RUF012

    def __init__(self, score: float = 0.8) -> None:
        self.score = score

    def analyze(self, text: str, entities: list[str], nlp_artifacts: object) -> list[object]:
        start = text.index("fnord")
        return [SimpleNamespace(start=start, end=start + 5, score=self.score, entity_type="PERSON")]


def test_a_recogniser_of_presidio_is_one_more_detector() -> None:
    def shown(score: float) -> str:
        return (
            Anonymiser(load_profile("strict"), None, extra=[PresidioDetector([Recognises(score)])])
            .redact("the fnord is well")
            .text
        )

    assert shown(0.8) == "the [NAME] is well"
    assert shown(0.4) == "the [NAME] is well"
    assert shown(0.39) == "the fnord is well"


def test_a_recogniser_that_errs_withholds_the_document() -> None:
    anonymiser = Anonymiser(load_profile("strict"), None, extra=[PresidioDetector([Recognises()])])
    with pytest.raises(AnonymiseError, match="'presidio'"):
        anonymiser.redact("nothing of that kind")


@pytest.mark.skipif(importlib.util.find_spec("presidio_analyzer") is not None, reason="Presidio is installed")
def test_without_presidio_it_is_refused_with_the_extras_name() -> None:
    with pytest.raises(ConfigError, match=r"cloister\[presidio\]"):
        pattern_recognisers()


@pytest.mark.parametrize("line", ['languages = ["fr"]', "tagger = 3", 'presidio = "yes"'])
def test_wrong_settings_of_a_site_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "site.toml").write_text(f'id = "s"\n[anonymisation]\n{line}\n')
    with pytest.raises(ConfigError, match=f"anonymisation.{line.split()[0]}"):
        read_site(tmp_path)


def test_the_command_uses_the_sites_tagger(tmp_path: Path, tagger: Tagger) -> None:
    from client.cli import main
    from client.site import make_keys

    home = tmp_path / "site"
    home.mkdir()
    make_keys(home)
    (home / "site.toml").write_text('id = "s"\n[anonymisation]\nprofile = "strict"\ntagger = "../t"\n')
    (tmp_path / "in.jsonl").write_text('{"text": "quux felt well"}\n')
    assert main(["anonymise", str(tmp_path / "in.jsonl"), str(tmp_path / "o.jsonl"), "--site", str(home)]) == 0
    assert (tmp_path / "o.jsonl").read_text() == '{"text": "[NAME] felt well"}\n'
