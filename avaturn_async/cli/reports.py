"""The files that report a batch: a table of all outcomes, a table of the failed rows, and an HTML page."""

from __future__ import annotations

import csv
import html
import json
import math
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Self

import avaturn_async as sdk

from .command import Reports, in_thread
from .output import page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..batch.table import Row

__all__ = ["ReportWriter", "histogram"]

#: The columns of `BatchOutcome.row`.
OUTCOME = ["avatar_id", "ok", "attempts", "resolved_by", "waited", "polls", "file", "size", "sha256"]
OUTCOME += ["error", "message"]
#: The columns of the page.
SHOWN = ["line", "avatar_id", "ok", "waited", "size", "file", "error", "message"]
#: Rows that are written in one go.
PIECE = 500
BARS = 20


class ReportWriter:
    """Writes outcomes to files as they arrive, in a thread; an async context manager.

    The files get their names in `finish`. Until then files of an earlier run stay unchanged, so that a batch can read
    the list of failures that it will replace. Files are CSV, or JSON lines if they are called .json, .jsonl or .ndjson.
    """

    def __init__(self, reports: Reports, columns: Sequence[str]) -> None:
        self._stack = ExitStack()
        self._rows: list[tuple[Row, sdk.BatchOutcome, Mapping[str, str]]] = []
        self._done: list[Callable[[], object]] = []
        own = [column for column in columns if column not in (*OUTCOME, "line")]
        again = [column for column in columns if column not in ("error", "message")] + ["error", "message"]
        self._report = self._table(reports.report, ["line", *own, *OUTCOME])
        self._failed = self._table(reports.failed_to, again)
        self._page = None if reports.html is None else self._open(_part(reports.html, ".rows"))
        self._html = reports.html

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self._stack.close)

    async def add(self, row: Row, outcome: sdk.BatchOutcome, made: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write the outcome of a row, with the fields of `made` in the report.

        Failed rows are written as they were read, without the user that was created for them.
        """
        self._rows.append((row, outcome, made))
        if len(self._rows) >= PIECE:
            await self._flush()

    async def finish(
        self, title: str, totals: Mapping[str, str], waited: Sequence[float], reasons: Counter[str]
    ) -> None:
        """Write the remaining rows, and rename the files to their final names."""
        await self._flush()
        if self._html is not None:
            await in_thread(self._assemble, self._html, (title, totals, waited, reasons))
        for rename in self._done:
            await in_thread(rename)

    def _table(self, path: Path | None, columns: list[str]) -> Callable[[Mapping[str, Any]], object] | None:
        if path is None:
            return None
        part = _part(path)
        file = self._open(part)
        self._done += [file.close, lambda: part.replace(path)]
        if path.suffix in (".json", ".jsonl", ".ndjson"):
            return lambda row: file.write(json.dumps({name: row.get(name) for name in columns}) + "\n")
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        return writer.writerow

    def _open(self, path: Path) -> IO[str]:
        # "surrogateescape": cells that are not UTF-8 are written unchanged.
        file = path.open("w+", encoding="utf-8", errors="surrogateescape", newline="")
        self._stack.callback(path.unlink, missing_ok=True)
        self._stack.callback(file.close)
        return file

    async def _flush(self) -> None:
        rows, self._rows = self._rows, []
        await in_thread(self._write, rows)

    def _write(self, rows: list[tuple[Row, sdk.BatchOutcome, Mapping[str, str]]]) -> None:
        for row, outcome, made in rows:
            found = {"line": row.line, **row.cells, **made, **outcome.row()}
            if self._report is not None:
                self._report(found)
            if self._failed is not None and not outcome.ok:
                self._failed({**row.cells, "error": found["error"], "message": found["message"]})
            if self._page is not None:
                cells = "".join(_cell(name, found[name]) for name in SHOWN)
                self._page.write(f'<tr class="{"done" if outcome.ok else "failed"}">{cells}</tr>\n')

    def _assemble(self, path: Path, summary: tuple[str, Mapping[str, str], Sequence[float], Counter[str]]) -> None:
        """Write the page: the summary, then the rows."""
        assert self._page is not None  # noqa: S101 - it is open if the page is wanted
        part = _part(path)
        self._page.seek(0)
        with self._open(part) as file:
            head, end = page("report.html").split("$rows")
            file.write(Template(head).substitute(_summary(*summary)))
            shutil.copyfileobj(self._page, file)
            file.write(end)
        part.replace(path)


def _part(path: Path, suffix: str = "") -> Path:
    return path.with_name(f".{path.name}{suffix}.part")


def _cell(name: str, value: object) -> str:
    if name == "ok":
        value = "done" if value else "failed"
    kind = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{_escape('' if value is None else value)}</td>"


def _escape(value: object) -> str:
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return html.escape(text.encode("utf-8", "replace").decode())


def _summary(title: str, totals: Mapping[str, str], waited: Sequence[float], reasons: Counter[str]) -> dict[str, str]:
    pairs = "".join(f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}</dd></div>" for name, value in totals.items())
    failures = "".join(
        f'<tr><td class="number">{n:,}</td><td>{_escape(kind)}</td></tr>' for kind, n in reasons.most_common()
    )
    shown = f"<h2>Failures by reason</h2><table>{failures}</table>" if failures else ""
    return {"title": _escape(title), "totals": pairs, "waits": _bars(waited) if waited else "", "reasons": shown}


def _bars(waited: Sequence[float]) -> str:
    width, counts = histogram(waited)
    most = max(counts)
    bars = "".join(
        f'<i style="height:{100 * count / most:.1f}%" title="{width * n:g} to {width * (n + 1):g} s: {count:,}"></i>'
        for n, count in enumerate(counts)
    )
    end = f"{width * len(counts):g} s, {most:,} in the highest bar"
    return (
        f"<h2>Seconds from the start of an export to its end</h2><figure><div class='bars'>{bars}</div>"
        f"<div class='axis'><span>0 s</span><span>{end}</span></div></figure>"
    )


def histogram(waited: Sequence[float]) -> tuple[float, list[int]]:
    """Return the width of a bar in seconds (a round number) and the counts of up to 20 bars."""
    longest = max(1.0, max(waited))
    scale = 10.0 ** math.floor(math.log10(longest / BARS))
    width = next(step * scale for step in (1, 2, 5, 10) if step * scale * BARS >= longest)
    counts = Counter(min(int(seconds / width), BARS - 1) for seconds in waited)
    return width, [counts[number] for number in range(max(counts) + 1)]
