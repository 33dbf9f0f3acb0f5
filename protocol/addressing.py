"""The place of each sealed message in a run, as both ends compute it.

Coordinator and site agree on: one sequence number a request, counted over the whole run; the answer to it carries the
same round and number in the other direction; the kind is Flower's message type. The greeting goes to all sites of the
roster in one sealed message, under a name that no site may bear.
"""

from __future__ import annotations

from privacy.errors import ProtocolError
from privacy.sealing import Direction, SealContext
from protocol.messages import HELLO, SECAGG, TRAIN

EVERY_SITE = "*"
KINDS = frozenset({HELLO, SECAGG, TRAIN})


def request_context(*, run: str, round_number: int, site: str, sequence: int, kind: str) -> SealContext:
    """Where a request of the coordinator belongs."""
    return SealContext(
        run=run, round=round_number, site=site, direction=Direction.DOWN, sequence=sequence, content_type=kind
    )


def answer_context(request: SealContext, site: str) -> SealContext:
    """Where the answer of `site` to a request belongs."""
    return SealContext(
        run=request.run,
        round=request.round,
        site=site,
        direction=Direction.UP,
        sequence=request.sequence,
        content_type=request.content_type,
    )


def check_request(context: SealContext, site: str, kind: str) -> None:
    """What a site demands of a request before it opens it.

    Raises: ProtocolError when it goes the wrong way, to another site, or under another kind than its envelope says.
    """
    addressee = EVERY_SITE if kind == HELLO else site
    if context.direction is not Direction.DOWN or context.site != addressee:
        raise ProtocolError("a request", expected="one to this site", found="one to someone else")
    if kind not in KINDS or context.content_type != kind:
        raise ProtocolError("a request", expected="the kind on its envelope", found="another kind")
