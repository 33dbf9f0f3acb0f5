"""Fields behind a label: what has another label, other fields or longer ones is malformed, whoever reads it."""

import pytest

from privacy.errors import ProtocolError
from privacy.secagg import History
from privacy.secagg.context import MAX_NAME_BYTES
from privacy.secagg.encoding import frame, read, u64
from privacy.secagg.history import HISTORY_LABEL, RoundRecord

LABEL, LIMITS = b"cloister/v1/secagg/test", (4, 9)


def test_the_fields_behind_a_label_are_what_was_framed():
    assert read(frame(LABEL, b"four", b"nine-char"), LABEL, LIMITS, what="a test") == [b"four", b"nine-char"]
    assert read(frame(LABEL, b"", b""), LABEL, LIMITS, what="a test") == [b"", b""]


@pytest.mark.parametrize(
    "data",
    [
        frame(b"cloister/v1/secagg/text", b"four", b"nine"),
        frame(b"", b"four", b"nine"),
        frame(LABEL, b"four"),
        frame(LABEL),
        frame(),
        frame(LABEL, b"four", b"nine", b""),
        frame(LABEL, b"fives", b"nine"),
        frame(LABEL, b"four", b"ten-chars!"),
    ],
    ids=["another label", "no label", "a field less", "no field", "nothing", "a field more", "long", "long at the end"],
)
def test_anything_else_is_malformed(data):
    with pytest.raises(ProtocolError, match="a test is malformed"):
        read(data, LABEL, LIMITS, what="a test")


@pytest.mark.parametrize(("longer", "taken"), [(0, True), (1, False)])
def test_a_history_names_no_run_that_could_not_have_begun(longer, taken):
    history = History({("r" * (MAX_NAME_BYTES + longer), 1): RoundRecord(bytes(32), 1)})
    if taken:
        assert History.from_bytes(history.to_bytes()).rounds == history.rounds
        return
    with pytest.raises(ProtocolError, match="malformed"):
        History.from_bytes(history.to_bytes())


def test_a_history_with_a_row_of_other_fields_is_malformed():
    row = frame(b"run", u64(1), bytes(32), u64(1))
    with pytest.raises(ProtocolError, match="malformed"):
        History.from_bytes(frame(HISTORY_LABEL, frame(row)))
