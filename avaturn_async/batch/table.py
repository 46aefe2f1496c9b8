"""Tables of ids: CSV, JSON lines or one id per line; and file names made from their rows."""

from __future__ import annotations

import codecs
import csv
import io
import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from ..downloads.names import check_name, check_path
from ..http.codec import parse_json

__all__ = ["FileNames", "Row", "Table"]

T = TypeVar("T")

_DELIMITERS = ",;\t"
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")  # how "surrogateescape" keeps bytes that are not UTF-8


@attrs.frozen
class Row:
    """A row of a table.

    Attributes:
        line: the number of its first line, from 1.
        cells: its texts by column, without surrounding spaces; empty ones are omitted.
        problem: why it can't be used, or None.
    """

    line: int
    cells: Mapping[str, str]
    problem: str | None = None

    def cell(self, column: str) -> str:
        """Return a cell; ValueError, with the line's number, if it is empty or the row can't be used."""
        if self.problem is not None:
            raise ValueError(f"line {self.line}: {self.problem}")
        if column not in self.cells:
            raise ValueError(f"line {self.line}: it has no {column}")
        return self.cells[column]

    def parse(self, column: str, parse: Callable[[str, str], T]) -> T:
        """Return what a function of a cell and its column returns; its ValueError gets the line's number."""
        cell = self.cell(column)
        try:
            return parse(cell, column)
        except ValueError as error:
            raise ValueError(f"line {self.line}: {error}") from None


class Table:
    """A table whose format is detected from its content; each iteration yields its rows.

    JSON lines begin with ``{``. A first line with a comma, a semicolon or a tab, or that is the name of the wanted
    column, is the header of a CSV. Anything else is a list of values of the wanted column, one a line, in which lines
    that begin with ``#`` are comments. A byte order mark, any line ends, quoted line ends and empty rows are accepted.
    Rows are parsed while they are iterated over, and a bad one has a `Row.problem` and stops no other.

    Args:
        content: the file, in UTF-8, or in UTF-16 with a byte order mark.
        column: the wanted column.

    Attributes:
        columns: the columns of a CSV or a list, and those of the first record of JSON lines.
    """

    columns: tuple[str, ...]

    def __init__(self, content: bytes, column: str) -> None:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._text = content.decode("utf-16", "replace")
        else:
            self._text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
        stream, self._start, self._skipped = self._stream(), 0, 0
        while (head := stream.readline()) and (not head.strip() or head.startswith("#")):
            self._start, self._skipped = stream.tell(), self._skipped + 1
        self._delimiter = max(_DELIMITERS, key=lambda each: len(_split(head, each)))
        self._is_json = head.lstrip().startswith("{")
        names = _split(head, self._delimiter)
        self._is_list = not self._is_json and len(names) <= 1 and names != [column]
        if self._is_json:
            self.columns = tuple(next((row.cells for row in self if row.problem is None), ()))
        else:
            self.columns = (column,) if self._is_list else tuple(filter(None, self._header(self._parsed())))

    def require(self, *columns: str, where: str) -> None:
        """Raise a ValueError that names the first of `columns` that the table lacks, and those it has."""
        for column in columns:
            if column not in self.columns and not (self._is_json and not self.columns):
                raise ValueError(f"{where} has no column {column!r}, but {', '.join(map(repr, self.columns))}")

    def __iter__(self) -> Iterator[Row]:
        if self._is_json or self._is_list:
            return self._lines()
        return self._records()

    def _stream(self, start: int = 0) -> io.StringIO:
        stream = io.StringIO(self._text, newline="")
        stream.seek(start)
        return stream

    def _lines(self) -> Iterator[Row]:
        """Yield one row per line."""
        for line, text in enumerate(self._stream(), 1):
            content = text.strip()
            if content and not content.startswith("#"):
                yield _json_row(line, content) if self._is_json else _row(line, {self.columns[0]: content})

    def _header(self, parsed: Iterator[tuple[int, list[str] | None]]) -> list[str]:
        line, names = next(parsed)
        if names is None:
            raise ValueError(f"line {line}: the quotation marks of the header are not in pairs")
        return [name.strip() for name in names]

    def _records(self) -> Iterator[Row]:
        """Yield the rows below a header."""
        parsed = self._parsed()
        names = self._header(parsed)
        for line, cells in parsed:
            if cells is None:
                yield Row(line, {}, "its quotation marks are not in pairs")
            elif any(map(str.strip, cells[len(names) :])):
                yield Row(line, {}, f"it has {len(cells)} cells, but the header has {len(names)}")
            elif any(map(str.strip, cells)):
                yield _row(line, dict(zip(names, map(str.strip, cells), strict=False)))

    def _parsed(self) -> Iterator[tuple[int, list[str] | None]]:
        """Split a CSV, and yield the line at which each row begins with its cells; None for a row that is malformed.

        After such a row it continues with the next line: a quotation mark that nothing closes must not swallow the
        rest of the file.
        """
        stream, before = self._stream(self._start), self._skipped
        reader = _reader(stream, self._delimiter)
        while True:
            start, line = stream.tell(), before + reader.line_num + 1
            try:
                yield line, next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield line, None
                stream.seek(start)
                stream.readline()
                reader, before = _reader(stream, self._delimiter), line


def _reader(stream: io.StringIO, delimiter: str) -> Any:
    return csv.reader(iter(stream.readline, ""), delimiter=delimiter, skipinitialspace=True, strict=True)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return [line]


def _row(line: int, cells: Mapping[str, str]) -> Row:
    cells = {name: cell for name, cell in cells.items() if name and cell}
    if any(_NOT_UTF8.search(cell) for cell in cells.values()):
        return Row(line, cells, "it is not in UTF-8: save the table as 'CSV UTF-8'")
    return Row(line, cells)


def _json_row(line: int, text: str) -> Row:
    try:
        record = parse_json(text)
    except ValueError as error:
        return Row(line, {}, f"it is not JSON: {error}")
    if not isinstance(record, dict):
        return Row(line, {}, "it is not a JSON object")
    for name, value in record.items():
        if isinstance(value, dict | list):
            return Row(line, {}, f"its {name} is neither a text nor a number")
    return _row(line, {name: "" if value is None else str(value).strip() for name, value in record.items()})


class FileNames:
    """Names of files, made from a template such as ``{user_id}/{avatar_id}.glb`` and the cells of rows.

    Each is a plain relative path that differs from those of earlier rows, even on a case-insensitive file system.

    Args:
        template: names of columns in braces; ``{{`` and ``}}`` are braces.
        columns: the columns that it may name.
        folder: whether the names are those of files in a folder, rather than of objects in a store.

    Raises:
        ValueError: the template is malformed or names another column.
    """

    def __init__(self, template: str, columns: tuple[str, ...], *, folder: bool) -> None:
        try:
            self._parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"the template {template!r} is malformed: {error}") from None
        for _, column, form, conversion in self._parts:
            if form or conversion:
                raise ValueError(f"the template {template!r} may have names of columns in its braces, and no formats")
            if column is not None and column not in columns:
                known = ", ".join(map(repr, dict.fromkeys(columns)))
                raise ValueError(f"the template {template!r} names {column!r}, but the columns are {known}")
        self._folder = folder
        self._lines: dict[str, int] = {}

    def claim(self, row: Row) -> str:
        """Return the name of a row's file.

        Raises:
            ValueError: a cell is empty or has a slash in it, the name is not a plain relative path or is too long, or
                an earlier row has it. The message begins with the number of the line.
        """
        name = ""
        for literal, column, _, _ in self._parts:
            name += literal
            if column is not None:
                cell = row.cell(column)
                if "/" in cell:
                    raise ValueError(
                        f"line {row.line}: its {column} {cell[:200]!r} has a slash, which no name may contain"
                    )
                name += cell
        try:
            (check_path if self._folder else check_name)(name)
        except ValueError as error:
            raise ValueError(f"line {row.line}: {error}") from None
        # As macOS and Windows compare names.
        key = unicodedata.normalize("NFC", name).casefold() if self._folder else name
        earlier = self._lines.setdefault(key, row.line)
        if earlier != row.line:
            raise ValueError(
                f"line {row.line}: its file name {name!r} is taken by line {earlier}; --name can use other columns"
            )
        return name
