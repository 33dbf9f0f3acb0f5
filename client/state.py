"""What a site must remember over crashes: which messages it has acted on, which prekeys are unspent, under which plan.

state/runs/RUN/replay   the replay rule, and behind it the private halves of the site's prekeys (SECRET): one file, so
                        that a request is admitted and the key that opened it gone in one step
state/runs/RUN/*.json   values such as the frozen plan

All of it is in files of the site's own user; what was spent is in `client.ledger`. The rules are in `privacy`; here is
only the storing. Prekeys are encrypted under a key from the site's secret, as the caches are: a copy of the state
without the folder of keys opens nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from learning.locks import waited_for
from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError, SealError
from privacy.sealing import ReplayRule, SealContext, Unspent, Verdict

PREKEYS_PURPOSE = "prekeys"
_PREKEYS_LABEL = b"cloister/v1/site/prekeys"
_LENGTH_BYTES, _NONCE_BYTES = 8, 12


class RunState:
    """A site's memory of one run: the last request that it acted on, its prekeys, and files such as the frozen plan.

    `key`: 32 bytes that the prekeys are encrypted under.
    """

    def __init__(self, folder: Path, run: str, key: bytes) -> None:
        self._folder, self._run, self._aead = run_folder(folder, run), run, AESGCM(key)

    @property
    def folder(self) -> Path:
        """The run's own folder, for its owner alone."""
        return make_private_dir(self._folder)

    def admit(self, context: SealContext, root: bytes, recipient_id: bytes) -> Unspent:
        """Let a request pass once, on disk before it is acted on; the prekeys that its answer announces.

        `recipient_id`: whom the request was wrapped to. Where that was a prekey, its private half is gone when this
        returns, and so are the older ones.

        Raises: SealError when it, or a later one, was acted on before; nothing is changed then.
        """
        path = self.folder / "replay"
        with waited_for(self._folder / "lock"):
            rule, unspent = self._read()
            admission = rule.admit(context, root)
            if admission.verdict is Verdict.DUPLICATE:
                raise SealError("a request", expected="a new one", found="one that was answered before")
            kept = unspent.admitted(recipient_id)
            write_private(path, self._encoded(admission.rule, kept))
        return kept

    def unspent(self) -> Unspent:
        """The prekeys that were announced and not used: none in a run that is new here, or whose state was lost."""
        return self._read()[1]

    def load(self, name: str) -> dict[str, object] | None:
        """A JSON value of this run, or None. Raises: ConfigError for a file that this site did not write so."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            value = json.loads(path.read_bytes())
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ConfigError(
                f"a site's state of a run, its {name}",
                expected="what it wrote",
                found="a damaged file",
                remedy="start a new run",
            )
        return value

    def store(self, name: str, value: dict[str, object]) -> None:
        """Keep a JSON value for this run."""
        write_private(self.folder / f"{name}.json", json.dumps(value, sort_keys=True).encode())

    def _read(self) -> tuple[ReplayRule, Unspent]:
        """Raises: SealError when the file is damaged, or belongs to another secret: nothing passes then."""
        path = self._folder / "replay"
        if not path.exists():
            return ReplayRule(), Unspent()
        data = path.read_bytes()
        size = int.from_bytes(data[:_LENGTH_BYTES], "big")
        rule = ReplayRule.from_bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
        sealed = data[_LENGTH_BYTES + size :]
        try:
            plain = self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._aad())
        except (InvalidTag, ValueError):
            raise SealError(
                "a site's state of a run", expected="what it wrote under its own secret", found="a damaged file"
            ) from None
        return rule, Unspent.from_bytes(plain)

    def _encoded(self, rule: ReplayRule, unspent: Unspent) -> bytes:
        stored, nonce = rule.to_bytes(), os.urandom(_NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, unspent.to_bytes(), self._aad())
        return len(stored).to_bytes(_LENGTH_BYTES, "big") + stored + nonce + sealed

    def _aad(self) -> bytes:
        return _PREKEYS_LABEL + self._run.encode()


def run_folder(state: Path, run: str) -> Path:
    """Where a site's state of a run lies."""
    return state / "runs" / hashlib.sha256(run.encode()).hexdigest()[:24]
