"""Errors that name a party: whoever has to act on a failed attempt must know whom to leave out of the next one."""

from __future__ import annotations

from privacy.errors import ProtocolError

COORDINATOR = "the coordinator"
THIS_SIDE = "this side"


class Fault(ProtocolError):
    """The protocol was broken, and `party` broke it: a site's id, `the coordinator` or `this side`.

    A site that checks what the coordinator passed on blames the coordinator, which should have checked it before.
    """

    def __init__(
        self,
        party: str,
        problem: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(f"{party}: {problem}", expected=expected, found=found, remedy=remedy)
        self.party, self.deed = party, problem

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.party, self.deed, self.expected, self.found, self.remedy)


def _rebuild(party: str, problem: str, expected: str | None, found: str | None, remedy: str | None) -> Fault:
    return Fault(party, problem, expected=expected, found=found, remedy=remedy)
