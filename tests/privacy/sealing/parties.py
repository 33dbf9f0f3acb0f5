"""Real keys, one context and both ways of opening, for the tests of this folder."""

import hashlib
import io
import tempfile
import tracemalloc
from dataclasses import replace
from unittest import mock

from privacy.sealing import Direction, Identity, SealContext, at_rest, open_message, open_sealed, open_stream, seal

COORDINATOR, SITE, OTHER, STRANGER = (Identity.generate() for _ in range(4))
CONTEXT = SealContext(
    run="run-7", round=3, site="hospital-a", direction=Direction.UP, sequence=5, content_type="update"
)
CHUNK = 65_536
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]


def payload(size):
    return hashlib.shake_256(b"payload").digest(size)


def sealed_message(size, *, context=CONTEXT, sender=SITE, recipients=(COORDINATOR, OTHER)):
    return seal(payload(size), context=context, sender=sender, recipients=[r.public() for r in recipients])


def open_in_memory(sealed, *, context=CONTEXT, sender=SITE, recipient=COORDINATOR):
    return open_sealed(sealed, context=context, sender=sender.public(), recipient=recipient)


def open_from_file(sealed, *, context=CONTEXT, sender=SITE, recipient=COORDINATOR):
    out = io.BytesIO()
    open_stream(io.BytesIO(sealed), out, context=context, sender=sender.public(), recipient=recipient)
    return out.getvalue()


def open_as_message(sealed, *, context=CONTEXT, sender=SITE, recipient=COORDINATOR):
    data = bytes(sealed)
    found = open_message(io.BytesIO(data), len(data), context=context, sender=sender.public(), recipient=recipient)
    return bytes(found.own)


def open_at_rest(sealed, *, context=CONTEXT, sender=SITE, recipient=COORDINATOR):
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(sealed)
        file.seek(0)
        return _read_at_rest(file, len(sealed), context, sender, recipient)


def open_at_rest_in_memory(sealed, *, context=CONTEXT, sender=SITE, recipient=COORDINATOR):
    with io.BytesIO(sealed) as reader:
        return _read_at_rest(reader, len(sealed), context, sender, recipient)


def _read_at_rest(reader, size, context, sender, recipient):
    with reader, mock.patch.object(at_rest, "SMALL_BYTES", 0):
        found = open_message(reader, size, context=context, sender=sender.public(), recipient=recipient)
    return bytes(found.own.read(0, len(found.own)))


EVERY_WAY = [open_in_memory, open_from_file, open_as_message, open_at_rest, open_at_rest_in_memory]


def peak_bytes(action):
    tracemalloc.start()
    try:
        result = action()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def moved(**changes):
    return replace(CONTEXT, **changes)


def header_length(recipients=2):
    """The bytes before the key commitment, from docs/wire-format.md."""
    return 16 + 2 + 4 + len(CONTEXT.to_bytes()) + 32 + 8 + 2 + 1200 * recipients
