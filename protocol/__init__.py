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

os.environ.update(QUIET)
