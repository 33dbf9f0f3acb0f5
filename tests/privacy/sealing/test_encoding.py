"""Reading never passes the end of a buffer, whatever lengths it claims."""

import pytest

from privacy.errors import SealError
from privacy.sealing.encoding import Cursor, frame


def test_the_end_is_the_end():
    cursor = Cursor(b"abc", what="a test")
    assert bytes(cursor.take(2)) == b"ab" and cursor.remaining() == 1
    with pytest.raises(SealError, match="a test ends too early"):
        cursor.take(2)
    assert bytes(cursor.take(1)) == b"c"
    cursor.finish()


def test_a_field_above_its_limit_is_refused_before_it_is_read():
    data = frame(b"12345")
    assert Cursor(data, what="a test").take_field(5) == b"12345"
    with pytest.raises(SealError, match="at most 4 bytes"):
        Cursor(data, what="a test").take_field(4)


def test_what_is_left_over_is_refused():
    with pytest.raises(SealError, match="after its end"):
        Cursor(b"a", what="a test").finish()


def test_framing_is_injective():
    assert len({frame(b"ab", b"c"), frame(b"a", b"bc"), frame(b"abc"), frame(b"", b"abc"), frame(b"abc", b"")}) == 5
