"""Contents that rest sealed in a file, as the link's answers do, for tests."""

import io
from unittest import mock

from flwr.app import ArrayRecord

from privacy.sealing import Plaintext, at_rest, seal_body
from privacy.sealing.body import BodyCipher
from privacy.sealing.common import BODY_HEADER_BYTES, BodyHeader
from privacy.sealing.suites import COMMON_SUITE
from protocol import payload
from protocol.messages import ARRAYS
from protocol.payload import arrays_record, decode_content, encode_content


def resting(path, *pieces) -> Plaintext:
    """The verified plaintext of a body with these bytes, in a file at `path`."""
    with path.open("wb") as out:
        body = seal_body(list(pieces), out)
    length = sum(map(len, pieces))
    cipher = BodyCipher(body.key, BodyHeader(suite=COMMON_SUITE, plaintext_length=length))
    with io.FileIO(path) as file:
        file.seek(BODY_HEADER_BYTES)
        plain = at_rest.hashed_at_rest(file, cipher, length)
        assert cipher.root() == body.root and file.tell() == path.stat().st_size
    return plain


def resting_content(path, content, small=0):
    """A message's content as it is decoded from a file; arrays above `small` bytes rest there."""
    with mock.patch.object(payload, "SMALL_BYTES", small):
        return decode_content(resting(path, *encode_content(content)))


def resting_arrays(path, arrays, small=0) -> ArrayRecord:
    """Named arrays that rest in a file."""
    return resting_content(path, {ARRAYS: arrays_record(arrays)}, small)[ARRAYS]


def everything_rests(monkeypatch) -> None:
    """Have small messages and small arrays stay sealed as well, as large ones do."""
    monkeypatch.setattr(at_rest, "SMALL_BYTES", 0)
    monkeypatch.setattr(payload, "SMALL_BYTES", 0)
