"""The names of files in a model folder that are ours and no library's."""

from __future__ import annotations

HEAD_FILE = "head.safetensors"
ABOUT_FILE = "cloister.json"
