"""A learned tagger beside the rules: a transformers token classifier from a folder, in union with them.

The folder is what `save_pretrained` writes: config, weights and tokeniser. Nothing is downloaded. Labels may be BIO or
plain (`B-PER`, `PATIENT`); each is read as the nearest kind, and one that is like none as `other`, which still hides it
where the profile hides that kind. An error of the model withholds the document, as an error of any detector does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from privacy.anonymise import Kind, Page, Span
from privacy.errors import ConfigError

_STRIDE = 32
"""Pieces that two windows of a long text share: an identifier at a window's edge is whole in one of them."""
_BATCH = 8
_LONGEST = 512
_WORDS: tuple[tuple[str, Kind], ...] = (
    ("hospital", Kind.ORGANISATION), ("institu", Kind.ORGANISATION), ("centro_salud", Kind.ORGANISATION),
    ("org", Kind.ORGANISATION), ("empresa", Kind.ORGANISATION),
    ("id_asegur", Kind.PLAN_NUMBER), ("plan", Kind.PLAN_NUMBER), ("insur", Kind.PLAN_NUMBER),
    ("titulacion", Kind.LICENCE), ("licen", Kind.LICENCE), ("empleo", Kind.LICENCE),
    ("id_sujeto", Kind.RECORD_NUMBER), ("contacto_asist", Kind.RECORD_NUMBER), ("record", Kind.RECORD_NUMBER),
    ("mrn", Kind.RECORD_NUMBER), ("ssn", Kind.NATIONAL_ID),
    ("national", Kind.NATIONAL_ID), ("passport", Kind.NATIONAL_ID),
    ("email", Kind.EMAIL), ("correo", Kind.EMAIL), ("url", Kind.URL), ("domain", Kind.URL), ("ip_", Kind.IP),
    ("phone", Kind.PHONE), ("telefono", Kind.PHONE), ("fax", Kind.PHONE), ("card", Kind.CARD), ("iban", Kind.IBAN),
    ("account", Kind.ACCOUNT), ("device", Kind.DEVICE), ("vehic", Kind.PLATE), ("plate", Kind.PLATE),
    ("date", Kind.DATE), ("fecha", Kind.DATE), ("time", Kind.DATE), ("age", Kind.AGE), ("edad", Kind.AGE),
    ("address", Kind.ADDRESS), ("street", Kind.ADDRESS), ("calle", Kind.ADDRESS),
    ("zip", Kind.ZIP), ("postal", Kind.ZIP),
    ("pais", Kind.REGION), ("country", Kind.REGION), ("state", Kind.REGION), ("territorio", Kind.LOCATION),
    ("loc", Kind.LOCATION), ("gpe", Kind.LOCATION), ("city", Kind.LOCATION), ("geo", Kind.LOCATION),
    ("profes", Kind.PROFESSION), ("occup", Kind.PROFESSION), ("sexo", Kind.SEX),
    ("gender", Kind.SEX), ("sex", Kind.SEX),
    ("per", Kind.NAME), ("name", Kind.NAME), ("nombre", Kind.NAME), ("patient", Kind.NAME), ("doctor", Kind.NAME),
    ("hcw", Kind.NAME), ("staff", Kind.NAME), ("id", Kind.CODE),
)  # fmt: skip


def kind_of_label(label: str) -> Kind:
    """The kind that a tagger's label speaks of; `Kind.OTHER` if none."""
    lower = label.lower()
    return next((kind for word, kind in _WORDS if word in lower), Kind.OTHER)


class Tagger:
    """A detector that asks a token classifier. Spans are offsets in the page's shadow, as any detector's are.

    Guarantees: each piece of a long text is read at least once, in windows that overlap; a piece whose best label is
    not `O` is proposed, and pieces of one label side by side are one span.
    """

    name = "tagger"

    def __init__(self, folder: Path) -> None:
        """Raises: ConfigError when the folder holds no token classifier."""
        wanted = "a folder with a token classifier and its tokeniser, in safetensors"
        if not folder.is_dir():  # else the path would be taken for a name, and looked up among models that were fetched
            found = "a file" if folder.exists() else "no such folder"
            raise ConfigError(f"tagger {folder}", expected=wanted, found=found, remedy="check the path")
        from transformers import AutoModelForTokenClassification, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            self._tokeniser: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
            self._model: Any = AutoModelForTokenClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, KeyError):
            raise ConfigError(f"tagger {folder}", expected=wanted, found="one that transformers cannot read") from None
        self._model.eval()

    @cached_property
    def labels(self) -> Mapping[int, str]:
        found: Mapping[int, str] = self._model.config.id2label
        return found

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(kind_of_label(plain(label)) for label in self.labels.values() if label != "O")

    @cached_property
    def window(self) -> int:
        """Pieces that are read at once: as many as the tokeniser says it was trained with, as the model has places."""
        places = int(getattr(self._model.config, "max_position_embeddings", _LONGEST))
        return min(_LONGEST, places, int(self._tokeniser.model_max_length))

    def find(self, page: Page) -> Iterator[Span]:
        if not page.shadow.strip():
            return
        pieces = sorted(set(self._pieces(page.shadow)))
        start, end, held = 0, 0, ""
        for first, last, label in pieces:
            joined = label == held and not page.shadow[end:first].strip()
            if held and not joined:
                yield Span(start, end, kind_of_label(held))
            if not joined:
                start, held = first, label
            end = max(end, last) if joined else last
        if held:
            yield Span(start, end, kind_of_label(held))

    def _pieces(self, text: str) -> Iterator[tuple[int, int, str]]:
        """(start, end, label without B- or I-) of each word piece that is labelled."""
        import torch

        longest = self.window
        encoded = self._tokeniser(
            text, truncation=True, max_length=longest, stride=min(_STRIDE, longest // 4), padding=True,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        offsets = encoded["offset_mapping"].tolist()
        for begin in range(0, len(offsets), _BATCH):
            window = {key: encoded[key][begin : begin + _BATCH] for key in ("input_ids", "attention_mask")}
            with torch.inference_mode():
                best = self._model(**window).logits.argmax(-1).tolist()
            for row, ids in zip(offsets[begin : begin + _BATCH], best, strict=True):
                for (first, last), label_id in zip(row, ids, strict=True):
                    label = self.labels[label_id]
                    if first < last and label != "O":
                        yield first, last, plain(label)


def plain(label: str) -> str:
    """A label without its BIO or BILOU prefix."""
    return label[2:] if label[:2] in ("B-", "I-", "L-", "U-", "E-", "S-") else label
