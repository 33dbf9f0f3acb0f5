"""Floor 3: what crosses the wire and what both ends must read alike.

This floor is the lowest that imports Flower, so that it is also where Flower is told, before it is imported, to keep to
itself: no telemetry, no update check, no installation at run time; nor do Ray or the hub's library report anything.
"""

import os

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of every process that imports this floor, and of the processes that it starts."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Memory of a model's size in pages of 2 MiB, in the processes that this one starts: most of what it costs to copy a
model is the first touch of its pages. Nothing where the C library is another one; what the operator has set stays."""

os.environ.update(QUIET)
for _name, _value in HUGE_PAGES.items():
    os.environ.setdefault(_name, _value)
