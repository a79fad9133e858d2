"""Fill the tables of docs/performance.md with the output of `lrwidgets bench --json`.

lrwidgets bench --json > docs/measurements.jsonl
.venv/bin/python scripts/performance_tables.py [RESULTS] [DOCUMENT]
"""

import argparse
import json
import re
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLACE = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MISSING = "*not measured*"
Record = dict[str, Any]


def main() -> None:
    """Rewrite the document in place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "docs" / "measurements.jsonl")
    parser.add_argument("document", nargs="?", type=Path, default=ROOT / "docs" / "performance.md")
    arguments = parser.parse_args()
    text = fill_tables(arguments.document.read_text(), read_records(arguments.results))
    arguments.document.write_text(text)


def read_records(path: Path) -> list[Record]:
    """Read the records of a file of JSON lines; none if there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def fill_tables(document: str, records: list[Record]) -> str:
    """Return the document with new tables between its marks."""

    def table(match: re.Match[str]) -> str:
        name = match[2]
        rows = [r for r in records if (r.get("benchmark", r["event"]) == name and "value" in r) or r["event"] == name]
        return f"{match[1]}{TABLES[name](rows) if rows else MISSING}\n{match[3]}"

    return PLACE.sub(table, document)


def number(value: float | None) -> str:
    """Return a number with three digits, or all digits of a large number."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown_table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pivot(records: list[Record], row: Callable[[Record], Hashable], column: Callable[[Record], Hashable],
          cell: Callable[[Record], str], corner: str) -> str:  # fmt: skip
    """Return records as a table, with rows and columns in the order in which they were measured."""
    rows, columns = dict.fromkeys(map(row, records)), dict.fromkeys(map(column, records))
    cells = {(row(r), column(r)): cell(r) for r in records}
    body = [[str(a), *(cells.get((a, b), "") for b in columns)] for a in rows]
    return markdown_table([corner, *map(str, columns)], body)


def parameter(name: str) -> Callable[[Record], Any]:
    """Return a function that reads a parameter of a record."""
    return lambda r: r["parameters"].get(name, "")


def named(r: Record) -> str:
    """Return name and unit of a record."""
    return f"{r['name']}, {r['unit']}"


def value(r: Record) -> str:
    """Return the number of a record."""
    return number(r["value"])


def common(records: list[Record], *names: str) -> str:
    """Return a sentence with parameters that all records share."""
    return ", ".join(f"{name.replace('_', ' ')} {records[0]['parameters'][name]}" for name in names) + "."


def machine(records: list[Record]) -> str:
    """Return a sentence about the machine of the measurements."""
    r = records[-1]
    versions = ", ".join(f"{name} {text}" for name, text in r["versions"].items())
    return f"{r['cpu']}, {r['cores']} cores, {r['memory_GB']} GB of memory, {r['system']}; {versions}."


def ceilings(records: list[Record]) -> str:
    """Return a table with a column for each number of threads."""

    def row(r: Record) -> str:
        order = r["parameters"].get("order")
        words = {"planes": "along planes", "random": "anywhere", "memory": "in the order of the memory"}
        return named(r) + (f", {words[order]}" if order else "")

    return pivot(records, row, lambda r: f"threads: {r['parameters']['threads']}", value, "")


def kernels(records: list[Record]) -> str:
    """Return a table of one thread, its limit, and all threads."""
    most = max(r["parameters"]["threads"] for r in records)
    head = ["window, box", "kernel", "1 thread", "best possible", "bound by", "reached", f"{most} threads"]
    body = []
    for r in records:
        known = r["parameters"]
        if known["threads"] == 1:
            same = [
                o for o in records
                if o["name"] == r["name"] and o["parameters"] == {**o["parameters"], **known, "threads": most}
            ]  # fmt: skip
            reached = "" if r["fraction"] is None else f"{100 * r['fraction']:.0f} %"
            floor = "" if r["ceiling"] is None else number(r["ceiling"])
            other = value(same[0]) if same else ""
            where = f"{known['window']}, {known['box']}"
            body.append([where, named(r), value(r), floor, r["bound"], reached, other])
    return markdown_table(head, body)


def step(records: list[Record]) -> str:
    """Return a table with columns for the first and a later iteration."""
    shared = common(records, "box", "pixel_size_A", "window", "rotation_extent_deg", "shift_extent_A",
                    "align_resolution_A", "particles", "threads", "median_of")  # fmt: skip

    def column(r: Record) -> str:
        return f"{r['parameters']['iteration']} ({r['parameters']['on_the_lattice_%']:g} % of particles on the lattice)"

    return f"{shared[0].upper()}{shared[1:]}\n\n{pivot(records, named, column, value, '')}"


def table_by_parameter(name: str, corner: str) -> Callable[[list[Record]], str]:
    """Return a function that makes a table with a row for each value of a parameter."""
    return lambda records: pivot(records, parameter(name), named, value, corner)


def box(records: list[Record]) -> str:
    """Return a table by box, with ratios to the box of the reference setting."""
    reference = {r["name"]: r["value"] for r in records if r["parameters"]["box"] == 128}

    def cell(r: Record) -> str:
        ratio = r["value"] / reference[r["name"]] if r["name"] in reference else None
        return value(r) + (f" ({ratio:.2f})" if ratio is not None else "")

    return pivot(records, parameter("box"), named, cell, "box (× box 128)")


def boxes(records: list[Record]) -> str:
    """Return a table with a row for each box and mask."""

    def row(r: Record) -> str:
        known = r["parameters"]
        return f"{known['box']}, {known['mask_radius_px']:g} px ({known['window']})"

    return pivot(records, row, named, value, "box, radius of the mask (window)")


def threads(records: list[Record]) -> str:
    """Return a table of speed, with speed-up in parentheses."""
    return pivot(
        records, parameter("threads"), named, lambda r: f"{value(r)} ({r['parameters']['speed_up']:.2f}×)", "threads"
    )


def shared(records: list[Record]) -> str:
    """Return a table of names and numbers of one setting."""
    return pivot(records, named, lambda r: f"{r['parameters']['particles']:,} of box {r['parameters']['box']}, "
                 f"{r['parameters']['threads']} cores", value, "")  # fmt: skip


def memory(records: list[Record]) -> str:
    """Return a table with a row for each number of particles."""
    return pivot(
        records,
        lambda r: f"{r['parameters']['particles']:,} of box {r['parameters']['box']}",
        named,
        value,
        "particles",
    )


def startup(records: list[Record]) -> str:
    """Return a table of names and seconds."""
    return pivot(records, named, lambda r: f"{r['parameters']['subset']:,} particles of box 128", value, "")


def reading(records: list[Record]) -> str:
    """Return a table with a row for each reader."""

    def row(r: Record) -> str:
        known = r["parameters"]
        return f"{known['kind']}, {known['rows']:,} rows: {known['reader']}"

    return pivot(records, row, named, value, "table: reader")


def programs(records: list[Record]) -> str:
    """Return a table with a column for each program, and ratios below."""
    both = [r for r in records if "program" in r["parameters"]]
    rest = [r for r in records if "program" not in r["parameters"]]

    def column(r: Record) -> str:
        known = r["parameters"]
        if "iterations" not in known:
            return str(known["program"])
        stopped = ", then stopped" if known.get("stopped") else ""
        return f"{known['program']} ({known['iterations']} iterations{stopped})"

    table = pivot(both, lambda r: f"{r['parameters']['data']}: {named(r)}", column, value, "")
    lines = [f"* {r['parameters']['data']}: {r['name']}: **{number(r['value'])}** {r['unit']}" for r in rest]
    return "\n".join([table, "", *lines])


TABLES: dict[str, Callable[[list[Record]], str]] = {
    "machine": machine,
    "ceilings": ceilings,
    "kernels": kernels,
    "step": step,
    "asked": shared,
    "particles": table_by_parameter("particles", "particles"),
    "box": box,
    "boxes": boxes,
    "mask": table_by_parameter("mask_radius_px", "radius of the mask, px"),
    "band": table_by_parameter("align_resolution_A", "information to, Å"),
    "threads": threads,
    "workers": shared,
    "many": table_by_parameter("particles", "particles"),
    "memory": memory,
    "startup": startup,
    "reading": reading,
    "reconstruct": programs,
    "relion": programs,
}

if __name__ == "__main__":
    main()
