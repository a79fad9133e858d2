"""STAR text is read to the letter and written so that it is read back, and a large table is read quickly."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lrcore.errors import InputError
from lrcore.io import star_text
from lrcore.io.row_groups import factorize_text, group_identical_rows
from lrwidgets.bench.table_reading import fastest_read_seconds, write_cs_table, write_star_table

SIXTEEN_ROWS = "data_a\nloop_\n_x #1\n_y #2\n" + "".join(f" {i}\t row{i} \n" for i in range(16))


def _read(folder: Path, text: str | bytes) -> dict[str, dict[str, list[str]]]:
    path = folder / "a.star"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return {name: table.to_dict("list") for name, table in star_text.read_blocks(path).items()}


TWO = "data_a\nloop_\n_x\n_y\n"
ONE = "data_a\nloop_\n_x\n"
WRITTEN = {
    "plain": ("data_a\n\nloop_\n_x #1\n_y #2\n1 2\n3 4\n", {"a": {"x": ["1", "3"], "y": ["2", "4"]}}),
    "gaps and blank lines": (
        "\n  data_a \nloop_ \n _x #1\n_y\n\n  1\t 2  \n\n \t3   4\n\n\n",
        {"a": {"x": ["1", "3"], "y": ["2", "4"]}},
    ),
    "Windows": ("data_a\r\nloop_\r\n_x\r\n_y\r\n1 2\r\n", {"a": {"x": ["1"], "y": ["2"]}}),
    "no end of line": (f"{ONE}1", {"a": {"x": ["1"]}}),
    "quotes": (f"""{TWO}"a b" 'c "d" e'\n"" '#f'\n""", {"a": {"x": ["a b", ""], "y": ['c "d" e', "#f"]}}),
    "quotes within words": (f"""{TWO}it's a"b"c\n"a"b" 'x\n""", {"a": {"x": ["it's", 'a"b'], "y": ['a"b"c', "'x"]}}),
    "comments": ("# 1\ndata_a # 2\nloop_ # 3\n_x #1\n# 4\n1 # 5\n# 6\na#b\n\n# 7\n", {"a": {"x": ["1", "a#b"]}}),
    "spellings": (f"{ONE}NaN\n<NA>\nNone\n1e5\n007\n", {"a": {"x": ["NaN", "<NA>", "None", "1e5", "007"]}}),
    "without a loop": (
        f"data_b\n\n_x 1\n_y 'b c' # why\n\n{ONE}2\n",
        {"b": {"x": ["1"], "y": ["b c"]}, "a": {"x": ["2"]}},
    ),
    "any order": (f"data_\nloop_\n_x\n1\n# version 30001\n\n{ONE}2\n", {"": {"x": ["1"]}, "a": {"x": ["2"]}}),
    "no rows": (f"{TWO}data_b\n", {"a": {"x": [], "y": []}, "b": {}}),
    "accents": (f"{ONE}µ/é\u00a0a.mrc\n", {"a": {"x": ["µ/é\u00a0a.mrc"]}}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_read_to_the_letter(tmp_path: Path, name: str) -> None:
    text, expected = WRITTEN[name]
    assert _read(tmp_path, text) == expected


@pytest.mark.parametrize("size", [1, 7, 20, 64])
@pytest.mark.parametrize("quote", ["", '"'])
def test_pieces_make_the_same_table(tmp_path: Path, monkeypatch, size: int, quote: str) -> None:
    text = SIXTEEN_ROWS.replace("row7", f"{quote}row7{quote}")
    monkeypatch.setattr(star_text, "PIECE_BYTES", size)
    assert _read(tmp_path, text) == {"a": {"x": [str(i) for i in range(16)], "y": [f"row{i}" for i in range(16)]}}


BAD = {
    "two tables": ("data_a\nloop_\n_x\n1\ndata_a\nloop_\n_x\n2\n", r"two tables are named data_a: remove one"),
    "two columns": ("data_a\nloop_\n_x\n_y\n_x\n1 2 3\n", r"data_a has two columns x: remove one"),
    "short row": (SIXTEEN_ROWS.replace("row12", ""), r"row 13 of data_a has 1 values instead of 2: check"),
    "long row": (SIXTEEN_ROWS.replace("row12", "row12 'and more'"), r"row 13 of data_a has 3 values"),
    "rows without columns": ("data_a\nloop_\n1 2\n", r"'1 2' in data_a is neither a column nor a value"),
    "a name without a value": ("data_a\n_x\n", r"'_x' in data_a is neither"),
    "no text": (SIXTEEN_ROWS.encode().replace(b"row3", b"r\xffw"), r"it is not text"),
    "no text in a header": (b"data_a\nloop_\n_x\xff\n1\n", r"it is not text"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [16, star_text.PIECE_BYTES])
def test_what_makes_no_sense_is_said_in_a_line(tmp_path: Path, monkeypatch, name: str, size: int) -> None:
    monkeypatch.setattr(star_text, "PIECE_BYTES", size)
    with pytest.raises(InputError, match=rf"a\.star: .*{BAD[name][1]}") as caught:
        _read(tmp_path, BAD[name][0])
    assert "\n" not in str(caught.value)


def _writable(text: str) -> bool:
    return not all(re.search(rf"{quote}\s", text, re.ASCII) for quote in "\"'")


values = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=8).filter(_writable)
names = st.sampled_from(["_a", "data_b", "loop_", "'", '"', "#", "a' b"])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(names, values, values), max_size=6))
def test_any_text_comes_back(tmp_path_factory, rows: list[tuple[str, str, str]]) -> None:
    path = tmp_path_factory.mktemp("text") / "a.star"
    table = pd.DataFrame(rows, columns=["w", "x", "y"], dtype="str")
    star_text.write_blocks(path, {"a": table, "b": table})
    blocks = star_text.read_blocks(path)
    for name in ("a", "b"):
        assert blocks[name].to_dict("list") == table.to_dict("list")


def test_text_that_no_quotes_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.star: value <a\" b' c> cannot be written"):
        star_text.write_blocks(tmp_path / "a.star", {"a": pd.DataFrame({"x": ["a\" b' c"]})})
    assert not list(tmp_path.iterdir())


def test_starfile_reads_the_same(tmp_path: Path) -> None:
    path, written = write_star_table(tmp_path / "set", 1000), tmp_path / "again.star"
    ours = star_text.read_blocks(path)
    star_text.write_blocks(written, ours)
    for file in (path, written):
        theirs = starfile.read(file, parse_as_string=[str(name) for block in ours.values() for name in block.columns])
        assert list(theirs) == list(ours)
        for name, block in ours.items():
            assert theirs[name].to_dict("list") == block.to_dict("list")


def test_alike_rows_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 3, 500), np.full(500, 7.0), rng.integers(0, 2, (500, 2)) / 3]
    first, group = group_identical_rows(columns)
    stacked = np.concatenate([np.asarray(one, float).reshape(500, -1) for one in columns], axis=1)
    _, first_there, group_there = np.unique(stacked, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(first, first_there)
    np.testing.assert_array_equal(group, group_there.reshape(-1))


@pytest.mark.parametrize("kind", ["S", "U"])
def test_distinct_texts_are_those_of_numpy(kind: str) -> None:
    column = np.random.default_rng(0).choice(["b", "a", "", "longer"], 100).astype(kind)
    for found, expected in zip(factorize_text(column), np.unique(column, return_inverse=True), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("make", "peer", "slower"), [(write_star_table, "starfile", 2.5), (write_cs_table, "numpy", 15.0)]
)
def test_a_large_table_is_read_about_as_fast_as_it_is_parsed(tmp_path: Path, make, peer: str, slower: float) -> None:
    """The peer parses and no more: nothing in it looks at the 400 stacks, the poses, or the particles' names."""
    path = make(tmp_path / "set", 100_000)
    ours, theirs = fastest_read_seconds("lrwidgets", path, 3), fastest_read_seconds(peer, path, 3)
    assert float(ours.lines[-1][1]) < slower * float(theirs.lines[-1][1])
    assert ours.peak_MB < theirs.peak_MB + 50
