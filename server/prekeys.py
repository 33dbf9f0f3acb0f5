"""The coordinator's side of prekeys: what its answers' prekeys come from, and which prekeys the sites have announced.

prekeys.secret   in a run's folder of work, beside its account: 32 bytes of one round (SECRET, 0600)

Every prekey for an answer is drawn from the secret of the request's round (`privacy.sealing.answer_prekey`). It is on
disk before the first request of the round leaves, and gone once the round's account is there: a run that is started
again in between asks again under the same keys and opens the answers that were made. The sites' prekeys are public;
they stand in the account (`server.resume`).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from learning.storage import remove_private, write_private
from privacy.errors import ConfigError, ProtocolError, SealError
from privacy.sealing import Prekey, PublicPrekey, SealContext, answer_prekey

SECRET_FILE = "prekeys.secret"  # noqa: S105 (a file name)
_LABEL = b"cloister/v1/round-secret"
_NUMBER_BYTES, _SECRET_BYTES = 8, 32


class RoundSecrets:
    """The secret of one round at a time: that of the round before is gone when the next one's is made.

    `folder`: a private folder in which it outlives this process; None: it does not. `afresh`: how often the run was
    taken up after it had ended: what was asked before is not asked again, and its secret is not kept.
    """

    def __init__(self, folder: Path | None = None, afresh: int = 0) -> None:
        self._path = folder / SECRET_FILE if folder is not None else None
        self._afresh = afresh
        self._held: tuple[int, bytes] | None = self._left()

    def prekey(self, request: SealContext) -> Prekey:
        """The prekey for the answer to a request: the same whenever it is asked for, until the round is over."""
        number = request.round
        if self._held is None or self._held[0] != number:
            self._held = number, secrets.token_bytes(_SECRET_BYTES)
            if self._path is not None:
                numbers = (self._afresh, number)
                head = _LABEL + b"".join(each.to_bytes(_NUMBER_BYTES, "big") for each in numbers)
                write_private(self._path, head + self._held[1])
        return answer_prekey(self._held[1], request)

    def over(self, round_number: int) -> None:
        """The account of that round is on disk: no answer of it, or of an earlier one, is opened any more."""
        if self._held is not None and self._held[0] <= round_number:
            self._held = None
            if self._path is not None:
                remove_private(self._path)

    def _left(self) -> tuple[int, bytes] | None:
        """What a process before this one has left; gone where nobody can need it."""
        if self._path is None or not self._path.exists():
            return None
        data, at = self._path.read_bytes(), len(_LABEL)
        numbers = [int.from_bytes(data[at + i : at + i + _NUMBER_BYTES], "big") for i in (0, _NUMBER_BYTES)]
        secret = data[at + 2 * _NUMBER_BYTES :]
        if not data.startswith(_LABEL) or len(secret) != _SECRET_BYTES or numbers[0] != self._afresh:
            remove_private(self._path)
            return None
        return numbers[1], secret


def forget_secrets(folder: Path) -> None:
    """A run is over, and what it had asked is not asked again: no answer of it is opened any more."""
    remove_private(folder / SECRET_FILE)


class SitePrekeys:
    """What the sites of a run have announced, by site id: each prekey is used once, in the order of their announcement.

    Of a site whose prekeys are all used (its last answers were lost) the last one is used once more: the site does not
    have it any more, and answers with new ones.
    """

    def __init__(self) -> None:
        self._unspent: dict[str, list[PublicPrekey]] = {}
        self._last: dict[str, PublicPrekey] = {}

    def announced(self, site: str, prekeys: Iterable[PublicPrekey]) -> None:
        """A site's answer announced these: the ones before are used no more."""
        self._unspent[site] = list(prekeys)

    def take(self, site: str) -> tuple[PublicPrekey, bool]:
        """The next one of a site, and whether nothing was sealed to it before.

        Raises: ProtocolError when the site has announced none.
        """
        unspent = self._unspent.get(site)
        if unspent:
            self._last[site] = unspent.pop(0)
            return self._last[site], True
        if site not in self._last:
            raise ProtocolError("a message to a site", expected="a prekey that it announced", found="none")
        return self._last[site], False

    def values(self) -> dict[str, dict[str, list[str]]]:
        """As a run's account keeps them."""
        return {
            site: {
                "unspent": [_text(prekey) for prekey in unspent],
                "last": [_text(self._last[site])] if site in self._last else [],
            }
            for site, unspent in self._unspent.items()
        }

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Iterable[str]]]) -> SitePrekeys:
        """What `values` gave. Raises: ConfigError for anything else."""
        found = cls()
        try:
            for site, kept in values.items():
                found._unspent[site] = [_prekey(text) for text in kept["unspent"]]
                for text in kept["last"]:
                    found._last[site] = _prekey(text)
        except (KeyError, TypeError, ValueError, AttributeError, SealError):
            raise ConfigError("the prekeys of a run's sites", expected="public prekeys", found="others") from None
        return found


def _text(prekey: PublicPrekey) -> str:
    return base64.b64encode(prekey.to_bytes()).decode("ascii")


def _prekey(text: str) -> PublicPrekey:
    try:
        return PublicPrekey.from_bytes(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise ValueError from error
