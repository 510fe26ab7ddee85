"""Lists and tables of files: .txt, .jsonl, .csv and .parquet."""

from collections.abc import Iterator, Mapping
import csv
import json
import re
from typing import Any

from etils import epath

from videodit.core.errors import UserError
from videodit.data.inputs.captions import COLUMNS, CaptionError, captions_of

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
# What the column that names the media may be called, in the order in which it is taken.
FILE_COLUMNS = (
    "file", "path", "video", "image", "media", "filename", "file_name", "filepath", "file_path", "video_path", "image_path",
    "url", "video_url", "image_url",
)  # fmt: skip
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_STORES = ("gs", "s3", "az")

# (what the line is called, the file as written, captions by kind, None or why the line cannot be used)
Line = tuple[str, str, dict[str, str], str | None]


def lines(path: epath.Path) -> Iterator[Line]:
    """Yields the lines of a list or table; empty ones are none.

    Raises:
      UserError: where the table has no column that names files, or cannot be read at all.
    """
    for number, row in _ROWS[path.suffix.lower()](path):
        yield _line(f"{path.name}, line {number}", row)


def _line(called: str, row: Mapping[str, Any] | None) -> Line:
    if row is None:
        return called, "", {}, "not a line of JSON with an object"
    row = {str(key).strip().lower(): value for key, value in row.items()}
    column = next((name for name in FILE_COLUMNS if row.get(name)), None)
    if column is None:
        return called, "", {}, "it names no file"
    file = row[column]
    if not isinstance(file, str):
        return called, "", {}, f"its {column!r} is a {type(file).__name__}, expected a path"
    file = file.strip()
    address = _ADDRESS.match(file)
    if address and address[1].lower() not in _STORES:
        return called, file, {}, "a web address, and prepare downloads nothing: fetch the file and name its path"
    try:
        return called, file, captions_of(row), None
    except CaptionError as error:
        return called, file, {}, str(error)


def _text(path: epath.Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            yield number, {"file": line}


def _jsonl(path: epath.Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    for number, line in enumerate(_read(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield number, row if isinstance(row, dict) else None


def _csv(path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(_read(path).splitlines(keepends=True))
    _check_columns(path, rows.fieldnames or ())
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise UserError(f"data.inputs {str(path)!r}, line {rows.line_num}, is no CSV: {error}") from error


def _parquet(path: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"data.inputs is {str(path)!r}, and Parquet needs pyarrow: pip install 'videodit[prepare]'") from error
    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowException as error:
            raise UserError(f"data.inputs {str(path)!r} is no Parquet file: {error}") from error
        _check_columns(path, table.schema_arrow.names)
        used = {*FILE_COLUMNS, *(name for names in COLUMNS.values() for name in names)}
        columns = [name for name in table.schema_arrow.names if name.strip().lower() in used]
        number = 0
        for batch in table.iter_batches(columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def _check_columns(path: epath.Path, names) -> None:
    if not {name.strip().lower() for name in names if name} & set(FILE_COLUMNS):
        raise UserError(
            f"data.inputs {str(path)!r} has the columns {', '.join(map(str, names)) or '(none)'}, expected one that names the media: "
            f"{', '.join(FILE_COLUMNS[:4])}, ..."
        )


def _read(path: epath.Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"data.inputs {str(path)!r} is no UTF-8 text: {error}") from error


_ROWS = {".txt": _text, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
