"""Work says how far it is."""

from videodit.core import progress


def test_progress_says_a_rate_and_a_time_to_go(monkeypatch, capsys):
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    show = progress.progress_line()
    for done in (100, 300, 500):
        show("examine", done, 500)
    said = capsys.readouterr().err.split("\r\x1b[2K")
    assert said == ["", "examine: 100/500", "examine: 300/500, 100.0/s, 2 s to go", "examine: 500/500, 100.0/s, 0 s to go\n"]
