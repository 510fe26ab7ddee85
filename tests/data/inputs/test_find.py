"""Whatever `data.inputs` names, each file of it is an input or a reject with a reason, under a name that does not change."""

import json
import os

import pytest

from videodit.core.errors import UserError
from videodit.data.inputs import digest, find


@pytest.fixture
def media(tmp_path):
    """Four files, two of them below a folder; what is in them is of no matter here."""
    for name in ("a.mp4", "b.png", "sub/c.webm", "sub/d.mp4"):
        path = tmp_path / "media" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(name.encode())
    return tmp_path / "media"


def rejects(found):
    return {each["file"]: each["reason"] for each in found.rejects}


def test_a_folder_gives_all_below_it_by_relative_name(media):
    (media / ".hidden").write_text("no input")
    os.symlink(media, media / "sub" / "round")
    found = find(media)
    assert list(found.files) == ["a.mp4", "b.png", "sub/c.webm", "sub/d.mp4"] and not found.rejects
    with found.files["sub/c.webm"].source() as source:
        assert digest(source) == digest(b"sub/c.webm") and found.files["sub/c.webm"].bytes == len("sub/c.webm")


def test_the_output_is_no_input(media):
    assert list(find(media, besides=media / "sub").files) == ["a.mp4", "b.png"]
    assert not find(f"{media}/*/*.mp4", besides=media / "sub").files


def test_captions_of_a_folder_come_by_kind_and_bad_lines_are_rejects(media):
    (media / "captions.jsonl").write_text(
        '{"file": "a.mp4", "caption": "très vite", "descriptive": "A long one."}\n\n{"file": "sub/c.webm", "original": "c"}\n'
        '{"file": "gone.mp4", "caption": "?"}\nnot json\n{"file": "a.mp4", "caption": "again"}\n{"file": "b.png"}\n'
        '{"file": "b.png", "caption": 3}\n'
    )
    found = find(media)
    assert found.files["a.mp4"].captions == {"original": "très vite", "descriptive": "A long one."}
    assert found.files["sub/c.webm"].captions == {"original": "c"} and found.files["b.png"].captions == {}
    assert rejects(found) == {
        "gone.mp4": "captions.jsonl names it, but it does not exist",
        "captions.jsonl, line 5": "not a line of JSON with an object",
        "captions.jsonl, line 6": "a second caption for a.mp4",
        "captions.jsonl, line 7": "it holds no caption",
        "captions.jsonl, line 8": "its 'caption' is a int, expected text",
    }


def test_a_glob_names_files_below_its_fixed_part(media):
    assert list(find(f"{media}/sub/*.mp4").files) == ["d.mp4"]
    assert list(find(f"{media}/*/[cd].*").files) == ["sub/c.webm", "sub/d.mp4"]
    assert not find(f"{media}/*.mkv").files


def test_a_list_is_relative_to_itself_and_every_line_counts(media):
    (media / "list.txt").write_text(f"a.mp4\n\nsub/../b.png\n{media}/sub/d.mp4\ngone.mp4\nsub\na.mp4\nhttps://example.com/x.mp4\n")
    found = find(media / "list.txt")
    assert list(found.files) == sorted(["a.mp4", "sub/../b.png", f"{media}/sub/d.mp4"])
    assert rejects(found) == {
        "gone.mp4": "it does not exist",
        "sub": "a folder, expected a file",
        "list.txt, line 7": "a.mp4 a second time",
        "https://example.com/x.mp4": "a web address, and prepare downloads nothing: fetch the file and name its path",
    }


ROWS = [
    {"video": "a.mp4", "text": "one", "descriptive": "One, at length.", "score": 3.5},
    {"video": "sub/c.webm", "text": "", "descriptive": None, "score": 1.0},
    {"video": "", "text": "of nothing", "descriptive": None, "score": 1.0},
    {"video": "gone.mp4", "text": "gone", "descriptive": None, "score": 0.0},
]


def write_jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def write_csv(path):
    lines = [",".join(ROWS[0]), *(",".join(f'"{value or ""}"' for value in row.values()) for row in ROWS)]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n")


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(("suffix", "write"), [(".jsonl", write_jsonl), (".csv", write_csv), (".parquet", write_parquet)])
def test_tables_of_each_format_say_the_same(media, suffix, write):
    table = media / f"table{suffix}"
    write(table)
    found = find(table)
    assert {name: each.captions for name, each in found.files.items()} == {
        "a.mp4": {"original": "one", "descriptive": "One, at length."}, "sub/c.webm": {},
    }  # fmt: skip
    assert sorted(rejects(found).values()) == ["it does not exist", "it names no file"]


def test_captions_of_a_csv_may_hold_lines_and_quotes(media):
    (media / "t.csv").write_text('path,caption\na.mp4,"two\nlines, ""quoted"""\nb.png,\n')
    found = find(media / "t.csv")
    assert found.files["a.mp4"].captions == {"original": 'two\nlines, "quoted"'} and found.files["b.png"].captions == {}


def test_lines_of_other_types_are_rejects(media):
    (media / "t.jsonl").write_text('{"file": 3}\n["a.mp4"]\n{"file": "a.mp4", "caption": ["x"]}\n{"file": "nul\\u0000.mp4"}\n')
    found = find(media / "t.jsonl")
    assert not found.files and len(found.rejects) == 4
    assert rejects(found)["a.mp4"] == "its 'caption' is a list, expected text"


def test_mistakes_name_what_would_be_right(media):
    (media / "t.csv").write_text("name,words\na,b\n")
    (media / "t.parquet").write_bytes(b"no parquet")
    (media / "l.txt").write_bytes(b"\xff\xfe")
    for place, said in [
        (media / "nowhere", "does not exist, expected a folder, a gs:// prefix, a glob, a list"),
        (media / "a.mp4", "is a file, expected"),
        (media / "**" / "*.mp4", "holds '\\*\\*', expected"),
        (media / "t.csv", "has the columns name, words, expected one that names the media: file, path"),
        (media / "t.parquet", "is no Parquet file"),
        (media / "l.txt", "is no UTF-8 text"),
    ]:
        with pytest.raises(UserError, match=said):
            find(place)


def test_a_name_that_is_not_utf8_is_a_reject(media):
    try:
        (media / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = find(media)
    assert rejects(found) == {"bad\\udcff.mp4": "its name is not UTF-8"} and len(found.files) == 4


def test_a_pipe_is_a_reject_and_is_not_waited_for(media):
    os.mkfifo(media / "pipe.mp4")
    found = find(media)
    assert rejects(found) == {"pipe.mp4": "a pipe, socket or device, expected a file"} and len(found.files) == 4
