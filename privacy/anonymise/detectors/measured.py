"""Capitalised words of medicine that name no one: laboratory symbols, scales, vertebrae, stages, genes and markers."""

from __future__ import annotations

import re

_SYMBOLS = frozenset(
    [
        "na",
        "cr",
        "ca",
        "mg",
        "cl",
        "hco3",
        "co2",
        "hct",
        "hgb",
        "hb",
        "plt",
        "egfr",
        "aptt",
        "nt-probnp",
        "ck-mb",
        "hba1c",
        "spo2",
        "sao2",
        "pao2",
        "paco2",
        "fio2",
        "etco2",
        "peep",
        "fev1",
        "fvc",
        "dlco",
        "lvef",
        "rvsp",
        "hfref",
        "hfpef",
        "nyha",
        "ecog",
        "curb-65",
        "cha2ds2-vasc",
        "has-bled",
        "meld-na",
        "apache-ii",
        "mmse",
        "phq-9",
        "gad-7",
        "nihss",
        "qsofa",
        "her2",
        "ki-67",
        "pd-l1",
        "kras",
        "nras",
        "braf",
        "brca",
        "brca1",
        "brca2",
        "tp53",
        "jak2",
        "mthfr",
        "chek2",
        "palb2",
        "pik3ca",
        "ros1",
        "idh1",
        "idh2",
        "mlh1",
        "msh2",
        "msh6",
        "pms2",
        "cftr",
        "pten",
        "apoe",
        "cyp2d6",
        "cyp2c19",
        "cdh1",
        "flt3",
        "npm1",
        "bcr-abl",
        "hbsag",
        "anti-hbs",
        "hiv-1",
        "hiv-2",
        "sars-cov-2",
        "ca-125",
        "ca125",
        "ca19-9",
    ]
)
_SHAPES = re.compile(
    r"[ctls]\d{1,2}(?:-[ctls]?\d{1,2})?|"  # vertebrae: L4-L5, T11
    r"i{2,3}[abc]\d?|iv[bc]\d?|"  # stages: IIIB
    r"[cpy]{0,2}t[0-4][a-d]?(?:n[0-3][a-c]?)?(?:m[01x])?|"  # TNM: pT1cN0M0
    r"hla-[a-z]{1,4}\d{0,2}|cd\d{1,3}|il-\d{1,2}"  # markers: HLA-B27, CD4
)


def is_measured(lower: str) -> bool:
    """True for a symbol, a vertebra, a stage or a marker, in lower case. No shape is that of a name."""
    return lower in _SYMBOLS or _SHAPES.fullmatch(lower) is not None
