"""The benchmark of the pipeline works through all files in every way; its figures are measured, not tested."""

from pathlib import Path

from benchmarks import pipeline


def test_each_way_takes_time_and_stands_in_the_table(tmp_path: Path) -> None:
    paths = pipeline.write_photos(tmp_path, 3)
    seconds = pipeline.measure(pipeline.ways("resnet18", paths, 2), 1)
    assert set(seconds) == {"decode", "compute", "files"}
    rows = pipeline.table({"decode": 1.0, "compute": 3.0, "files": 5.0}, 20)
    assert [row.split("|")[2].strip() for row in rows[2:6]] == ["20", "7", "5", "4"] and "1.25 x" in rows[-1]
