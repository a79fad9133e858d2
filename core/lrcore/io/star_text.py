"""Read and write STAR files as tables of text, without changing any value.

A value is a word, or text between quotes (`"` or `'`) that open at the beginning and close at the end of a word; a
`#` at the beginning of a word starts a comment. Lines without quotes
and comments are split by Arrow, others one by one.
"""

import codecs
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
"""Bytes of a table that are split at a time."""
ROWS = 100_000
"""Rows of a table that are written at a time."""
BLOCK = rb"[ \t]*data_(\S*)[^\n]*"
FIRST, LATER = re.compile(BLOCK), re.compile(rb"\n" + BLOCK)
WORD = re.compile(r"""(?<!\S)(?:"(.*?)"|'(.*?)'|(\#.*))(?!\S)|(\S+)""", re.ASCII)
WHITESPACE_TO_BLANK = bytes.maketrans(b"\t\r\v\f", b"    ")
NOT_LATIN_1 = re.compile(rb"[\x00\x80-\x9f\xff]")
"""Bytes that no text in Latin-1 has: control characters, and the last letter, which only names in French have."""
MUST_QUOTE = r"""^$|[ \t\n\r\v\f"'#]|^(?:data_|loop_|_)"""
"""Pattern of the values that must be quoted."""
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
TAB = pa.scalar("\t", pa.large_string())
HEAD = "\n# version 30001\n\n"

Columns = list[pa.Array]


def read_blocks(path: Path) -> dict[str, pd.DataFrame]:
    """Read all tables of a STAR file by name, all values text; a block without a loop becomes a table of one row.

    Raises InputError naming the table and the row that is invalid. Warns if the text is not UTF-8 but Latin-1.
    """
    try:
        raw = _utf8(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the name") from error
    heads = [head for head in (FIRST.match(raw), *LATER.finditer(raw)) if head]
    if not heads:
        raise InputError(f"{path}: is not a STAR file (no line begins with data_): give a STAR file")
    ends = [head.start() for head in heads[1:]] + [len(raw)]
    blocks: dict[str, pd.DataFrame] = {}
    for head, end in zip(heads, ends, strict=True):
        name = head[1].decode()
        if name in blocks:
            raise InputError(f"{path}: two tables are named data_{name}: remove one of them")
        blocks[name] = _table(path, name, raw, head.end(), end)
    return blocks


def write_blocks(path: Path, blocks: Mapping[str, pd.DataFrame | dict[str, str]]) -> None:
    """Write tables of text as a STAR file.

    The same tables give the same bytes; a failure leaves no partial file.

    Parameters
    ----------
    path : file to write
    blocks : table name → table, or label → value for a block without a loop

    Raises
    ------
    InputError
        If the file cannot be written, or a value cannot be quoted.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEAD)
        for name, table in blocks.items():
            if isinstance(table, dict):
                values = _quote_column(path, _text_array(path, table.values())).to_pylist()
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
    """Convert a column of text to one Arrow array."""
    array = pa.array(values, from_pandas=False)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.cast(pa.large_string())


def to_series(values: pa.Array) -> "pd.Series[str]":
    """Convert an Arrow array of text to a column."""
    return pd.Series(pd.array(values, dtype=TEXT))


def _text_array(path: Path, values: Iterable[str]) -> pa.Array:
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError as error:
        name = " ".join(str(error.object).split())
        raise InputError(
            f"{path}: {name} is not UTF-8, which a STAR file must be: rename that file or folder"
        ) from error


def _utf8(path: Path, raw: bytes) -> bytes:
    """Return text as UTF-8 with lines that end in a line feed. Raises InputError for UTF-16 and UTF-32."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise InputError(f"{path}: is UTF-16 or UTF-32 text: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            if NOT_LATIN_1.search(raw):
                raise InputError(f"{path}: is not a STAR file (it is not text): give a STAR file") from error
            warnings.warn(f"{path}: is not UTF-8: its text is read as Latin-1", stacklevel=2)
            raw = raw.decode("latin-1").encode()
    return raw if b"\n" in raw else raw.replace(b"\r", b"\n")


def _table(path: Path, name: str, raw: bytes, at: int, end: int) -> pd.DataFrame:
    """Parse the table in raw[at:end], which follows its data_ line."""
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
            reason = f"'{' '.join(words)[:40]}' in data_{name} is neither a column nor a value"
            raise InputError(f"{path}: is not a readable STAR file ({reason}): check that it is complete")
        elif words:
            labels.append(words[0][1:])
            values += words[1:2]
    return _frame(path, name, labels, [] if loop else [pa.array([value], pa.large_string()) for value in values])


def _frame(path: Path, name: str, labels: list[str], columns: Columns) -> pd.DataFrame:
    if len(set(labels)) < len(labels):
        repeated = next(label for label, count in Counter(labels).items() if count > 1)
        raise InputError(f"{path}: data_{name} has two columns {repeated}: remove one of them")
    if not columns:
        return pd.DataFrame(columns=labels, dtype=TEXT)
    return pd.DataFrame({label: to_series(column) for label, column in zip(labels, columns, strict=True)})


def _body(path: Path, name: str, width: int, raw: bytes, at: int, end: int) -> Columns:
    """Split the rows in raw[at:end] into columns."""
    parts: list[Columns] = [[] for _ in range(width)]
    row, end = 0, _end_of_rows(raw, at, end)
    while at < end:
        last = (
            end
            if end - at <= PIECE_BYTES
            else raw.rfind(b"\n", at, at + PIECE_BYTES) + 1 or _next_line_start(raw, at + PIECE_BYTES, end)
        )
        columns = _split(path, name, width, raw[at:last], row)
        for part, column in zip(parts, columns, strict=True):
            part.append(column)
        row += len(columns[0])
        at = last
    # Column by column, so that memory never holds two copies of the whole table.
    return [pa.concat_arrays(parts.pop(0)) for _ in range(width)]


def _split(path: Path, name: str, width: int, piece: bytes, row: int) -> Columns:
    """Split whole lines of a table into columns; row: number of rows before them."""
    if not any(special in piece for special in (b'"', b"'", b"#")):
        try:
            return _split_plain(piece, width)
        except pa.ArrowInvalid:
            pass  # a row has another width, or is not text: reported below
    rows = [words for line in piece.decode().split("\n") if (words := _words(line))]
    for number, words in enumerate(rows, start=row + 1):
        if len(words) != width:
            reason = f"row {number} of data_{name} has {len(words)} values instead of {width}"
            raise InputError(f"{path}: {reason}: check that the file is complete")
    return [pa.array(column, pa.large_string()) for column in (zip(*rows, strict=True) if rows else [()] * width)]


def _split_plain(piece: bytes, width: int) -> Columns:
    """Split lines without quotes and comments by Arrow. Raises ArrowInvalid if a row has another width."""
    chars = np.frombuffer(piece.translate(WHITESPACE_TO_BLANK) + b"\n", np.uint8)
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
    """Return the end of the last row, before blank lines and comments that precede the next table."""
    while at < end:
        start = raw.rfind(b"\n", at, end - 1) + 1 or at
        line = raw[start:end].strip()
        if line and not line.startswith(b"#"):
            break
        end = start
    return end


def _words(line: str) -> list[str]:
    matches = (match.groups() for match in WORD.finditer(line))
    return [next(text for text in groups if text is not None) for groups in matches if groups[2] is None]


def _quote_column(path: Path, column: pa.Array) -> pa.Array:
    """Quote the values that could not be read back otherwise."""
    special = pc.match_substring_regex(column, MUST_QUOTE)
    if not pc.any(special).as_py():
        return column
    pairs = zip(column.to_pylist(), special.to_pylist(), strict=True)
    return pa.array([_quote_value(path, text) if quoted else text for text, quoted in pairs], pa.large_string())


def _quote_value(path: Path, text: str) -> str:
    """Quote a value by the quotes that do not close within it. Raises InputError if both do."""
    text = text.replace("\n", " ")
    quote = next((quote for quote in "\"'" if not re.search(rf"{quote}\s", text, re.ASCII)), None)
    if quote is None:
        raise InputError(f"{path}: value <{text}> cannot be written in a STAR file: remove one kind of quotes from it")
    return f"{quote}{text}{quote}"


def _lines(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while at < end:
        after = _next_line_start(raw, at, end)
        yield at, after
        at = after


def _next_line_start(raw: bytes, at: int, end: int) -> int:
    """Return where the line after the one at `at` begins."""
    return raw.find(b"\n", at, end) + 1 or end
