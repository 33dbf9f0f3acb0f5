"""A window on a file is the file's bytes at that place, wherever it begins."""

import io
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.windows import window

SIZE = 3 * mmap.ALLOCATIONGRANULARITY + 11


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("w") / "file"
    path.write_bytes(bytes(range(251)) * (SIZE // 251 + 1))
    with path.open("r+b") as out:
        out.truncate(SIZE)
    return io.FileIO(path)


@given(start=st.integers(0, SIZE), data=st.data())
def test_a_window_is_the_bytes_at_its_place(file, start, data):
    size = data.draw(st.integers(0, SIZE - start))
    file.seek(start)
    assert bytes(window(file, start, size)) == file.read(size)


@pytest.mark.parametrize(("start", "size"), [(0, SIZE + 1), (SIZE, 1), (10 * SIZE, 1)])
def test_a_window_does_not_go_beyond_the_end(file, start, size):
    with pytest.raises(EOFError):
        window(file, start, size)


def test_a_window_outlives_its_file_and_cannot_be_written_to(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    with io.FileIO(tmp_path / "f") as file:
        view = window(file, 3, 4)
    (tmp_path / "f").unlink()
    assert bytes(view) == b"3456" and view.readonly
