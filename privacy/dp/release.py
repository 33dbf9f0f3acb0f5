"""The key of one release: drawn once, paid for once, and worth nothing for any other release.

A round's lots and noise are a function of a key. A site that is killed in a round and asked for it again must go on
with the same key: with another one it would release a second noised sum, which is charged a second time. But a key
that is used twice is the end of all privacy if anything beneath it differs: two sums with the same noise give, by
their difference, the bare difference of the gradients. Hence three rules, each of which alone keeps a release whole:

1. *Bound.* The key of the streams is derived from the stored secret and from all that the release is a function of:
   run, round, job, base, plan, starting model, data (`Release.key`). Where one of them differs the streams are
   independent, by the pseudo-randomness of HKDF, not by a comparison that somebody must remember to make.
2. *Paid.* A secret stands beside the charge that paid for it, and is drawn after that charge is durable. While the
   charge is not on the ledger, which was set back or removed then, the site refuses every private round.
3. *Once.* Before a result is handed on its digest is stored (`Release.finished`). What is computed again later under
   the same secret may leave only if it is the same, bit for bit; a machine that rounds otherwise is refused. So
   determinism is checked, not assumed.

Handing out the same bytes again costs nothing: the second copy is a function of the first one (post-processing).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.dp.ledger import Charge
from privacy.dp.stream import KEY_BYTES
from privacy.errors import BudgetError, ConfigError

_KEY_LABEL = b"cloister/v1/dp-release\x00"
_VERSION = 1
_DIGEST_HEX = 64


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a release is asked for, all of it known before a record is read. Digests are SHA-256 in hexadecimal.

    `data_set`: the site's name for it; `model`: of the tuned weights that the round begins with.
    """

    data_set: str
    run: str
    round: int
    job: str
    base: str
    plan: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release, open or finished. `attempt`: that of the charge that paid for it.

    `data`: digest of the examples, empty until they were read. `outcome`: digest of the result, empty until there is
    one. `secret`: 32 bytes, in no representation; `to_bytes` holds it, and is stored sealed.
    """

    request: Request
    attempt: int
    secret: bytes = field(repr=False)
    data: str = ""
    outcome: str = ""

    @classmethod
    def begin(cls, request: Request, attempt: int) -> Release:
        """A release under a fresh secret of the operating system. Its charge is on the ledger before."""
        return cls(request=request, attempt=attempt, secret=secrets.token_bytes(KEY_BYTES))

    def answers(self, request: Request) -> bool:
        """Whether a request asks for this release once more."""
        return self.request == request

    def is_paid(self, charges: Iterable[Charge]) -> bool:
        """Whether the charge that paid for this release is among a ledger's."""
        asked = self.request
        paid = (asked.data_set, asked.run, asked.round, self.attempt)
        return any(charge.attempt_key() == paid and charge.plan_digest == asked.plan for charge in charges)

    def bound_to(self, data: str) -> Release:
        """The release of these examples. Raises: BudgetError where it is bound to others: they need one of their own.

        A release that was not yet bound has drawn nothing.
        """
        if self.data not in ("", data):
            raise BudgetError(
                f"the release of round {self.request.round}",
                expected="the examples that it was begun with",
                found="others",
                remedy="charge the round again",
            )
        return replace(self, data=data)

    def key(self) -> bytes:
        """The key of the streams, 32 bytes: the same for the same secret, request and data, and for nothing else.

        Raises: BudgetError before the release is bound to its examples.
        Source: Krawczyk 2010 (HKDF; RFC 5869): outputs under different `info` are independent.
        """
        if not self.data:
            raise BudgetError(f"the release of round {self.request.round}", expected="examples", found="none yet")
        bound = json.dumps([asdict(self.request), self.data], sort_keys=True).encode()
        info = _KEY_LABEL + hashlib.sha256(bound).digest()
        derived: bytes = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self.secret)
        return derived

    def finished(self, outcome: str) -> Release:
        """The release with its result's digest, to be stored before the result is handed on.

        Raises: BudgetError where it was finished with another result: this one must not leave.
        """
        if self.outcome not in ("", outcome):
            raise BudgetError(
                f"the release of round {self.request.round}",
                expected="the bytes that were released before, computed again",
                found="others: this machine or its libraries round differently now",
                remedy="asked again, the round is charged and drawn afresh",
            )
        return replace(self, outcome=outcome)

    def to_bytes(self) -> bytes:
        """SECRET: what a site stores, sealed."""
        values = {**asdict(self), "secret": self.secret.hex(), "version": _VERSION}
        return json.dumps(values, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Release:
        """The release that `to_bytes` wrote. Raises: ConfigError for anything else, without a word of what it was."""
        try:
            values = json.loads(data)
            if values.pop("version") != _VERSION:
                raise ValueError
            request = Request(**values.pop("request"))
            release = cls(request=request, secret=bytes.fromhex(values.pop("secret")), **values)
            if not _well_formed(release):
                raise ValueError
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ConfigError("a site's open release", expected="one that it wrote", found="another file") from None
        return release


def _well_formed(release: Release) -> bool:
    return (
        len(release.secret) == KEY_BYTES
        and type(release.attempt) is int
        and release.attempt >= 0
        and all(isinstance(text, str) and len(text) in (0, _DIGEST_HEX) for text in (release.data, release.outcome))
    )
