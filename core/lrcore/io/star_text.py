"""STAR files as tables of text: every block found, split column by column and written again, each value to the letter.

A value is a word, or what stands between quotes (`"` or `'`) at the beginning and the end of a word; a `#` at the
beginning of a word starts a comment. Lines of plain words are split by Arrow, others one by one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from lrcore.errors import InputError
from lrcore.io.paths import atomic_write

PIECE_BYTES = 1 << 24
"""Bytes of a table that are split at once."""
ROWS = 100_000
"""Rows of a table that are written at once."""
BLOCK = rb"[ \t]*data_(\S*)[^\n]*"
FIRST, LATER = re.compile(BLOCK), re.compile(rb"\n" + BLOCK)
WORD = re.compile(r"""(?<!\S)(?:"(.*?)"|'(.*?)'|(\#.*))(?!\S)|(\S+)""", re.ASCII)
GAPS = bytes.maketrans(b"\t\r\v\f", b"    ")
SPECIAL = r"""^$|[ \t\n\r\v\f"'#]|^(?:data_|loop_|_)"""
"""What a value that is written bare must not match."""
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
TAB = pa.scalar("\t", pa.large_string())
HEAD = "\n# version 30001\n\n"

Columns = list[pa.Array]


def read_blocks(path: Path) -> dict[str, pd.DataFrame]:
    """Every table of a STAR file by name, all values text; a block without a loop is a table of one row.

    Raises InputError naming the table, and the row, that makes no sense.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    heads = [head for head in (FIRST.match(raw), *LATER.finditer(raw)) if head]
    if not heads:
        raise InputError(f"{path}: is no STAR file (no line begins with data_): give the particles' STAR file")
    ends = [head.start() for head in heads[1:]] + [len(raw)]
    blocks: dict[str, pd.DataFrame] = {}
    try:
        for head, end in zip(heads, ends, strict=True):
            name = head[1].decode()
            if name in blocks:
                raise InputError(f"{path}: two tables are called data_{name}: keep one of them")
            blocks[name] = _table(path, name, raw, head.end(), end)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no STAR file (it is not text): give the particles' STAR file") from error
    return blocks


def write_blocks(path: Path, blocks: Mapping[str, pd.DataFrame | dict[str, str]]) -> None:
    """Write tables of text, and blocks without a loop, as a STAR file, whole or not at all.

    The same tables give the same bytes. Raises InputError if the system refuses, or a value has no room in quotes.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEAD)
        for name, table in blocks.items():
            if isinstance(table, dict):
                values = _quote_column(path, pa.array(table.values(), pa.large_string())).to_pylist()
                lines = (f"_{label}\t\t\t{value}\n" for label, value in zip(table, values, strict=True))
                file.write(f"data_{name}\n\n{''.join(lines)}\n\n")
                continue
            labels = (f"_{column} #{number}\n" for number, column in enumerate(table.columns, start=1))
            file.write(f"data_{name}\n\nloop_\n{''.join(labels)}")
            columns = [_quote_column(path, to_arrow(table[column])) for column in table.columns]
            for first in range(0, len(table) if columns else 0, ROWS):
                lines = pc.binary_join_element_wise(*(column.slice(first, ROWS) for column in columns), TAB)
                file.write("\n".join(lines.to_pylist()) + "\n")
            file.write("\n\n")


def to_arrow(values: "pd.Series[Any]") -> pa.Array:
    """A column as one Arrow array, text as it is kept here."""
    found = pa.array(values, from_pandas=False)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found.cast(pa.large_string())


def to_series(values: pa.Array) -> "pd.Series[str]":
    """An Arrow array of text as a column."""
    return pd.Series(pd.array(values, dtype=TEXT))


def _table(path: Path, name: str, raw: bytes, at: int, end: int) -> pd.DataFrame:
    """The table that stands in raw[at:end], after its name."""
    labels: list[str] = []
    values: list[str] = []
    loop = False
    for start, after in _lines(raw, at, end):
        line = raw[start:after]
        words, label = _words(line.decode()), line.lstrip().startswith(b"_")
        if loop and labels and words and not label:
            return _frame(path, name, labels, _body(path, name, len(labels), raw, start, end))
        if words == ["loop_"] and not labels:
            loop = True
        elif words and not (label and (loop or len(words) == 2)):
            said = f"'{' '.join(words)[:40]}' in data_{name} is neither a column nor a value"
            raise InputError(f"{path}: is no readable STAR file ({said}): check that it is complete")
        elif words:
            labels.append(words[0][1:])
            values += words[1:2]
    return _frame(path, name, labels, [] if loop else [pa.array([one], pa.large_string()) for one in values])


def _frame(path: Path, name: str, labels: list[str], columns: Columns) -> pd.DataFrame:
    if len(set(labels)) < len(labels):
        twice = next(label for label, count in Counter(labels).items() if count > 1)
        raise InputError(f"{path}: data_{name} has two columns {twice}: keep one of them")
    if not columns:
        return pd.DataFrame(columns=labels, dtype=TEXT)
    return pd.DataFrame({label: to_series(column) for label, column in zip(labels, columns, strict=True)})


def _body(path: Path, name: str, width: int, raw: bytes, at: int, end: int) -> Columns:
    """The columns of the rows in raw[at:end]."""
    parts: list[Columns] = [[] for _ in range(width)]
    row, end = 0, _end_of_rows(raw, at, end)
    while at < end:
        last = (
            end
            if end - at <= PIECE_BYTES
            else raw.rfind(b"\n", at, at + PIECE_BYTES) + 1 or _next_line_start(raw, at + PIECE_BYTES, end)
        )
        found = _split(path, name, width, raw[at:last], row)
        for part, column in zip(parts, found, strict=True):
            part.append(column)
        row += len(found[0])
        at = last
    # A column at a time, so that there are never two of the whole table.
    return [pa.concat_arrays(parts.pop(0)) for _ in range(width)]


def _split(path: Path, name: str, width: int, piece: bytes, row: int) -> Columns:
    """The columns of a piece of a table, which begins and ends with a line; row: how many came before."""
    if not any(special in piece for special in (b'"', b"'", b"#")):
        try:
            return _split_plain(piece, width)
        except pa.ArrowInvalid:
            pass  # of another width somewhere, or not text: said below
    rows = [words for line in piece.decode().split("\n") if (words := _words(line))]
    for number, words in enumerate(rows, start=row + 1):
        if len(words) != width:
            said = f"row {number} of data_{name} has {len(words)} values instead of {width}"
            raise InputError(f"{path}: {said}: check that the file is complete")
    return [pa.array(column, pa.large_string()) for column in (zip(*rows, strict=True) if rows else [()] * width)]


def _split_plain(piece: bytes, width: int) -> Columns:
    """The same of lines without quotes and comments. Raises ArrowInvalid if they are not all of this width."""
    chars = np.frombuffer(piece.translate(GAPS) + b"\n", np.uint8)
    after = chars[1:]
    keep = chars != ord(" ")
    keep[:-1] |= (after != ord(" ")) & (after != ord("\n"))
    packed = chars[keep].tobytes().replace(b"\n ", b"\n").lstrip(b" ")
    names = [str(i) for i in range(width)]
    table = csv.read_csv(
        pa.BufferReader(packed),
        csv.ReadOptions(column_names=names),
        csv.ParseOptions(delimiter=" ", quote_char=False, double_quote=False),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False),
    )
    return [column.combine_chunks() for column in table.columns]


def _end_of_rows(raw: bytes, at: int, end: int) -> int:
    """Before the blank lines and comments that stand ahead of the next table."""
    while at < end:
        start = raw.rfind(b"\n", at, end - 1) + 1 or at
        line = raw[start:end].strip()
        if line and not line.startswith(b"#"):
            break
        end = start
    return end


def _words(line: str) -> list[str]:
    found = (match.groups() for match in WORD.finditer(line))
    return [next(text for text in groups if text is not None) for groups in found if groups[2] is None]


def _quote_column(path: Path, column: pa.Array) -> pa.Array:
    """Values quoted where they would not be read back as they are."""
    special = pc.match_substring_regex(column, SPECIAL)
    if not pc.any(special).as_py():
        return column
    pairs = zip(column.to_pylist(), special.to_pylist(), strict=True)
    return pa.array([_quote_value(path, text) if odd else text for text, odd in pairs], pa.large_string())


def _quote_value(path: Path, text: str) -> str:
    """In the quotes that do not end within it. Raises InputError if there are none such."""
    text = text.replace("\n", " ")
    quote = next((quote for quote in "\"'" if not re.search(rf"{quote}\s", text, re.ASCII)), None)
    if quote is None:
        raise InputError(
            f"{path}: the value <{text}> cannot be written in a STAR file: it must lose one kind of quotes"
        )
    return f"{quote}{text}{quote}"


def _lines(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while at < end:
        after = _next_line_start(raw, at, end)
        yield at, after
        at = after


def _next_line_start(raw: bytes, at: int, end: int) -> int:
    """Where the line after the one at `at` begins."""
    return raw.find(b"\n", at, end) + 1 or end
