"""Members of a tar are read where they lie, with the captions of their sample, and damage costs only what it hits."""

import io
import tarfile

import pytest

from videodit.data.inputs import find
from videodit.data.stills import MediaError


def write(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read(made):
    with made.source() as source:
        return source


SAMPLES = {
    "s/000.mp4": b"first", "s/000.txt": "première\n".encode(), "s/000.json": b'{"descriptive": "The first.", "fps": 8}',
    "s/001.video.webm": b"second" * 300, "s/001.json": b'{"caption": "second"}', "v1.5 x.mp4": b"third", "v1.5 x.txt": b"dots",
    "alone.txt": b"no media", "broken.png": b"p", "broken.json": b"{", "list.png": b"p", "list.json": b"[]", ".hidden": b"",
}  # fmt: skip


def test_members_come_with_their_samples_captions(tmp_path):
    found = find(write(tmp_path / "a.tar", SAMPLES))
    assert {name: (read(each), each.captions) for name, each in found.files.items()} == {
        "a.tar/s/000.mp4": (b"first", {"original": "première", "descriptive": "The first."}),
        "a.tar/s/001.video.webm": (b"second" * 300, {"original": "second"}),
        "a.tar/v1.5 x.mp4": (b"third", {"original": "dots"}),
        "a.tar/broken.png": (b"p", {}),
        "a.tar/list.png": (b"p", {}),
    }
    assert {each["file"] for each in found.rejects} == {"a.tar/alone.txt", "a.tar/broken.json", "a.tar/list.json"}


def test_a_folder_and_a_glob_of_tars_give_the_same_names(tmp_path):
    for name in ("0.tar", "1.tar"):
        write(tmp_path / name, {"x.mp4": name.encode()})
    names = ["0.tar/x.mp4", "1.tar/x.mp4"]
    assert list(find(tmp_path).files) == list(find(f"{tmp_path}/*.tar").files) == names
    (tmp_path / "all.txt").write_text("0.tar\n1.tar\n")
    assert list(find(tmp_path / "all.txt").files) == names
    assert read(find(tmp_path).files["1.tar/x.mp4"]) == b"1.tar"


def test_a_name_twice_in_a_tar_is_a_reject(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("x.mp4")
            info.size = 3
            tar.addfile(info, io.BytesIO(content))
    found = find(tmp_path / "a.tar")
    assert read(found.files["a.tar/x.mp4"]) == b"one" and found.rejects == [{"file": "a.tar/x.mp4", "reason": "a.tar/x.mp4 a second time"}]


@pytest.mark.parametrize("content", [b"", b"text" * 500])
def test_what_is_no_tar_is_a_reject(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    (tmp_path / "b.png").write_bytes(b"x")
    found = find(tmp_path)
    assert list(found.files) == ["b.png"]
    assert found.rejects[0]["file"] == "a.tar" and "the tar cannot be read" in found.rejects[0]["reason"]


def test_a_tar_that_breaks_off_gives_what_came_before(tmp_path):
    path = write(tmp_path / "a.tar", {"x.mp4": b"x" * 2000, "y.mp4": b"y" * 2000})
    path.write_bytes(path.read_bytes()[:4000])
    found = find(path)
    assert read(found.files["a.tar/x.mp4"]) == b"x" * 2000
    with pytest.raises(MediaError, match="cut short"):
        read(found.files["a.tar/y.mp4"])
    assert "cannot be read on" in found.rejects[0]["reason"]
