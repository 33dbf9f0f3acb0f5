"""The words and numbers that both ends of the link share: versions, sizes, refusals, failures, the calls themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

import grpc

OLDEST_VERSION = NEWEST_VERSION = 2
"""The versions of the link that this code speaks. 2: a payload's digest joins those of its parts."""
SERVICE = "cloister.link.v1.Link"
MODELS_SERVICE, PEOPLE_SERVICE = "cloister.link.v1.Models", "cloister.link.v1.People"
MODEL_KIND = "model"
"""The kind in the seal of what a run has left for a site."""
VERSION_KEY, TASK_KEY, OFFSET_KEY = "cloister-link", "cloister-task", "cloister-offset"

PIECE_BYTES = 64 * 1024
"""Offsets are multiples of this, and so are the messages of a bulk stream, but for its last."""
BLOCK_BYTES = 1024 * 1024
"""The message of a bulk stream: larger ones were slower and cost memory, smaller ones cost calls."""
SYNC_BYTES = 16 * BLOCK_BYTES
"""An answer that arrives is synced to the disk, and asked whether it is still wanted, this often."""
LARGEST_MESSAGE = 8 * BLOCK_BYTES
KEEPALIVE_S = 60
LARGEST_PAYLOAD = 8 * 1024**3
DIGEST_BYTES = 32


class Refused(StrEnum):
    """Why a call was refused: the first word of the status' details."""

    VERSION = "version"
    """The two ends share no version of the link, or the call did not name the one agreed on."""
    STRANGER = "stranger"
    """The certificate names no site of this coordinator, or not the one that the site says it is."""
    FOREIGN = "foreign"
    """The task is another site's, or none at all: the two look the same to a site."""
    CLOSED = "closed"
    """Nobody waits for the task any more: the round went on, or its answer was taken."""
    OTHER = "other"
    """Another answer to this task was committed."""
    SIZE = "size"
    OFFSET = "offset"
    DIGEST = "digest"
    """The bytes that arrived are not the ones announced. They were deleted: send them again."""
    MALFORMED = "malformed"
    STALLED = "stalled"
    BUSY = "busy"
    """More calls or streams than one site, or all together, may have. Try again later."""
    DISK = "disk"
    REPLACED = "replaced"
    """A newer stream of the same transfer took over."""
    NOTHING = "nothing"
    """The run has left nothing to hand out: it goes on, or it came to no model."""
    FAILED = "failed"
    """The coordinator could not; its log says why. Try again later."""


STATUS = {
    Refused.VERSION: grpc.StatusCode.FAILED_PRECONDITION,
    Refused.STRANGER: grpc.StatusCode.PERMISSION_DENIED,
    Refused.FOREIGN: grpc.StatusCode.NOT_FOUND,
    Refused.CLOSED: grpc.StatusCode.FAILED_PRECONDITION,
    Refused.OTHER: grpc.StatusCode.ALREADY_EXISTS,
    Refused.SIZE: grpc.StatusCode.INVALID_ARGUMENT,
    Refused.OFFSET: grpc.StatusCode.OUT_OF_RANGE,
    Refused.DIGEST: grpc.StatusCode.DATA_LOSS,
    Refused.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Refused.STALLED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Refused.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refused.DISK: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refused.REPLACED: grpc.StatusCode.ABORTED,
    Refused.NOTHING: grpc.StatusCode.FAILED_PRECONDITION,
    Refused.FAILED: grpc.StatusCode.UNAVAILABLE,
}


class Failure(IntEnum):
    """Why a site has no answer. As the code of Flower's `Error` it reaches the run; codes below 100 are Flower's."""

    SEAL = 100
    """The request did not open, or came a second time."""
    PROTOCOL = 101
    CONFIG = 102
    RAISED = 103
    """The site's app raised something that is not ours; its administrator's log says where."""
    KILLED = 104
    """The worker was killed, as the kernel does when memory runs out."""
    DIED = 105
    """The worker ended by itself without an answer."""
    INTERRUPTED = 106
    """The daemon was stopped or killed in the middle of the work."""
    DAMAGED = 107
    """The request never arrived as it was announced."""
    DISK = 108
    """No room on the site's disk."""
    EXPIRED = 120
    """The task was given up before an answer came. Set by the coordinator."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What counts as standing still. There are no total timeouts: whatever moves is alive.

    `stall_s`: seconds without progress after which a transfer or a call is cut. Progress is seen a
    message at a time, so that the slowest line is one that takes 1 MiB in `stall_s`: 140 kbit/s as it stands.
    `wait_s`: the longest that the coordinator lets a site wait for work before it says that there is none.
    """

    stall_s: float = 60.0
    wait_s: float = 25.0


def channel_options() -> list[tuple[str, int]]:
    """The gRPC options of both ends.

    The window is fixed: gRPC's own probing widens it to what the path bears, and a coordinator with many streams
    would hold many such windows (seen: 70 MB with this, 110 to 240 MB without, for one stream at the same speed).
    4 MiB carry 320 Mbit/s over 100 ms.
    """
    return [
        ("grpc.max_receive_message_length", LARGEST_MESSAGE),
        ("grpc.max_send_message_length", LARGEST_MESSAGE),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 4 * BLOCK_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.max_concurrent_streams", 64),
        ("grpc.server_handshake_timeout_ms", 20_000),
    ]
