"""Tables of any spreadsheet and program, and names of files made of their rows."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import example, given, strategies as st

from avaturn_async.batch.table import FileNames, Row, Table


def read(content: str | bytes, column: str = "avatar_id") -> list[tuple[int, dict[str, str] | str]]:
    """Return the line of each row with its cells, or with its problem."""
    table = Table(content.encode() if isinstance(content, str) else content, column)
    return [(row.line, row.problem or dict(row.cells)) for row in table]


@pytest.mark.parametrize(
    "content",
    [
        b"avatar_id,user_id\na,u\n",
        b"\xef\xbb\xbfavatar_id;user_id\r\na;u\r\n",
        b"avatar_id\tuser_id\ra\tu\r",
        b'"avatar_id", "user_id"\r\n"a", "u"',
        "avatar_id\tuser_id\r\na\tu\r\n".encode("utf-16"),
        b"avatar_id,user_id,,\r\na,u,,\r\n",
        b" avatar_id , user_id \n a , u \n",
    ],
    ids=["unix", "excel", "mac", "quoted", "utf-16", "trailing", "spaces"],
)
def test_spreadsheets(content: bytes) -> None:
    """Delimiters, line ends, byte order marks, quotation marks and empty columns of any kind are the same table."""
    table = Table(content, "avatar_id")
    assert ("avatar_id", "user_id") == table.columns
    assert [Row(2, {"avatar_id": "a", "user_id": "u"})] == list(table) == list(table)


def test_line_numbers_after_quoted_line_ends_and_empty_rows() -> None:
    """A row is where it begins; rows without a text in them are none."""
    assert [(4, {"id": "a", "note": "x\r\n\r\ny"}), (7, {"id": "b"}), (10, {"id": "c"})] == read(
        '\r\n\r\nid;note\r\na;"x\r\n\r\ny"\r\nb\r\n;;\r\n\r\nc;\r\n', "id"
    )


def test_one_value_a_line() -> None:
    """Without a delimiter, and without the name of the column, lines are values; comments are skipped."""
    assert [(3, {"avatar_id": "a"}), (5, {"avatar_id": "b"})] == read("# ids\n\n a\n# c\nb")
    assert [(2, {"avatar_id": "a"})] == read('"avatar_id"\n"a"\n')
    assert ([], ("avatar_id",)) == (read(""), Table(b"", "avatar_id").columns)


def test_json_lines() -> None:
    """Objects are rows, numbers are texts, and each bad line has its problem."""
    lines = ['{"id": "a", "n": 7, "none": null}', "{", "[1]", '{"id": {}}', '{"id": "\\ud800"}', "", '{"id": "b"}']
    table = "\n".join(lines)
    assert ("id", "n") == Table(table.encode(), "id").columns
    (first, broken, array, nested, surrogate, last) = read(table, "id")
    assert ((1, {"id": "a", "n": "7"}), (7, {"id": "b"})) == (first, last)
    assert [3, 4] == [array[0], nested[0]]
    assert "it is not a JSON object" == array[1]
    assert "its id is neither a text nor a number" == nested[1]
    assert str(broken[1]).startswith("it is not JSON: ")
    assert str(surrogate[1]).startswith("it is not JSON: ")


def test_bad_rows_stop_no_other() -> None:
    """A quotation mark that nothing closes, too many cells and bytes that are not UTF-8 concern their row alone."""
    rows = read(b'id;note\n1;"open\n2;"ok"\n3;a;b\n4;\xff\n5;"x"y\n6;\n7;"last')
    assert [2, 3, 4, 5, 6, 7, 8] == [line for line, _ in rows]
    pairs = "its quotation marks are not in pairs"
    assert [pairs, {"id": "2", "note": "ok"}, "it has 3 cells, but the header has 2"] == [
        found for _, found in rows[:3]
    ]
    assert [pairs, {"id": "6"}, pairs] == [found for _, found in rows[4:]]
    assert str(rows[3][1]).startswith("it is not in UTF-8")
    with pytest.raises(ValueError, match="line 3: it has no note"):
        Row(3, {}).cell("note")
    with pytest.raises(ValueError, match="line 3: it is odd"):
        Row(3, {"note": "x"}, "it is odd").cell("note")


def test_headers_that_can_not_be_used() -> None:
    """A missing column is named with those that there are, and a header that can't be read with its line."""
    with pytest.raises(ValueError, match=r"^people\.csv has no column 'avatar_id', but 'id', 'name'$"):
        Table(b"id,name\n", "avatar_id").require("avatar_id", where="people.csv")
    Table(b"{", "avatar_id").require("avatar_id", where="stdin")  # its rows say what is wrong
    with pytest.raises(ValueError, match="line 2: the quotation marks of the header"):
        Table(b'\n"a"x,b\n', "a")


def test_a_value_in_another_form() -> None:
    """An error of a cell's parser gets the number of the line."""
    assert 7 == Row(2, {"n": "7"}).parse("n", lambda cell, _: int(cell))
    with pytest.raises(ValueError, match="line 2: invalid literal"):
        Row(2, {"n": "x"}).parse("n", lambda cell, _: int(cell))


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8).map(str.strip)


@given(
    st.lists(st.tuples(texts, texts).filter(any), max_size=5), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"])
)
@example([("a", "x\ry"), ("b", '"\n"')], ";", "\r\n")
def test_what_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str, end: str) -> None:
    """Whatever is in the cells, and however the rows are delimited."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "name"), *rows])
    found = [row.cells for row in Table(file.getvalue().encode(), "id") if row.problem is None]
    assert [{k: v for k, v in zip(("id", "name"), row, strict=True) if v} for row in rows] == found


@given(st.binary(max_size=60))
@example(b'a,b\n"')
@example(b"{\n\xff\xfe")
def test_any_bytes_are_rows_or_a_value_error(content: bytes) -> None:
    """No content makes it hang or fail otherwise, and lines only go up."""
    try:
        lines = [row.line for row in Table(content, "a")]
    except ValueError:
        return
    assert sorted(set(lines)) == lines


def claim(*cells: str, template: str = "{user}/{id}.glb", folder: bool = True) -> list[str]:
    """Return the names of rows, or why there is none."""
    names, found = FileNames(template, ("user", "id"), folder=folder), []
    for line, cell in enumerate(cells, 2):
        try:
            found.append(names.claim(Row(line, {"user": cell, "id": "x"} if cell else {"id": "x"})))
        except ValueError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("..", "not a plain relative path"),
        (".", "not a plain relative path"),
        ("a/b", "its user 'a/b' has a slash"),
        ("/etc", "its user '/etc' has a slash"),
        ("..\\..", "has a backslash"),
        ("C:", "not a plain relative path"),
        ("NUL", "Windows reserves: 'NUL'"),
        ("com1.txt", "Windows reserves"),
        ("x" * 300, "longer than"),
        ("ä" * 128, "longer than"),
        ("a\nb", "a control character"),
        ("", "it has no user"),
    ],
)
def test_names_that_are_refused(cell: str, problem: str) -> None:
    """Names that leave the folder or that no file can have are told with the line; the rest goes on."""
    refused, fine = claim(cell, "fine")
    assert refused.startswith("line 2: ")
    assert problem in refused
    assert "fine/x.glb" == fine


def test_names_that_are_equal() -> None:
    """Where two rows have the same name, also on macOS or Windows, the second is told that of which line it is."""
    assert [
        "Zoë/x.glb",
        "line 3: its file name 'zoe\u0308/x.glb' is taken by line 2; --name can use other columns",
    ] == claim("Zoë", "zoe\u0308")
    assert ["A/x.glb", "a/x.glb"] == claim("A", "a", folder=False)
    assert ["{u}-x", "line 3: its file name '{u}-x' is taken by line 2; --name can use other columns"] == claim(
        "u", "u", template="{{{user}}}-{id}"
    )


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{name}.glb", "names 'name', but the columns are 'user', 'id'"),
        ("{}.glb", "names '', but"),
        ("{user.__class__}", "names 'user.__class__', but"),
        ("{user!r}", "no formats"),
        ("{user:>9}", "no formats"),
        ("{user", "is malformed: "),
    ],
)
def test_templates_that_are_refused(template: str, problem: str) -> None:
    """A template has names of columns in braces, and nothing else."""
    with pytest.raises(ValueError, match="the template") as caught:
        FileNames(template, ("user", "id"), folder=True)
    assert problem in str(caught.value)


def test_a_column_with_two_roles_is_listed_once() -> None:
    """The column of the ids is among the columns of the table."""
    with pytest.raises(ValueError, match=r"the columns are 'user', 'id'$"):
        FileNames("{name}.glb", ("user", "id", "id"), folder=True)


def test_json_of_another_shape_names_no_columns() -> None:
    """A file whose first record can't be read takes its columns from the first that can."""
    assert ("b",) == Table(f"{{\n{json.dumps({'b': 1})}".encode(), "b").columns
