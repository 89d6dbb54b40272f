"""Reports of an evaluation: the table read back, and the picture looked at."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.training import reports
from mpncov_zoo.training.evaluate import Evaluation
from mpncov_zoo.training.reports import COLUMNS, draw_confusion, prepare, write_classes, write_reports

NAMES = ("ant, red", 'the "bee"', "two\nlines", "=1+1")
# Rows are the true classes, columns the answers. Of the last class there is no image; nobody answers the third.
CONFUSION = [[6, 2, 0, 0], [1, 9, 0, 10], [3, 1, 0, 0], [0, 0, 0, 0]]
FULL, EMPTY, GREY = (8, 48, 107), (247, 251, 255), (211, 211, 211)  # the ends of matplotlib's "Blues"; "lightgray"


def evaluation(confusion: object, names: tuple[str, ...] | None = None) -> Evaluation:
    counts = np.array(confusion, np.int64)
    return Evaluation(50.0, 100.0, 1.0, counts, names or tuple(f"class {i}" for i in range(len(counts))))


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_each_class_whatever_its_name(tmp_path: Path) -> None:
    write_classes(evaluation(CONFUSION, NAMES), tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert rows == [
        [NAMES[0], "8", "6", "75.0", "60.0", NAMES[1], "2"],
        [NAMES[1], "20", "9", "45.0", "75.0", NAMES[3], "10"],
        [NAMES[2], "4", "0", "0.0", "", NAMES[0], "3"],
        [NAMES[3], "0", "0", "", "0.0", "", "0"],
    ]


def test_a_class_that_is_never_mistaken_is_confused_with_none(tmp_path: Path) -> None:
    write_classes(evaluation([[3, 0], [1, 2]]), tmp_path / "classes.csv")
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines[1:] == ["class 0,3,3,100.0,75.0,,0", "class 1,3,2,66.6667,100.0,class 0,1"]


def test_names_of_folders_that_are_no_text_keep_their_bytes(tmp_path: Path) -> None:
    names = ("caf\udce9", "a")  # what Python makes of a Latin-1 name
    write_classes(evaluation(np.eye(2), names), tmp_path / "classes.csv")
    assert b"caf\xe9,1,1" in (tmp_path / "classes.csv").read_bytes()
    draw_confusion(evaluation(np.eye(2), names), tmp_path / "confusion.png")


# --- the picture ------------------------------------------------------------------------------------------------------


def pixels(result: Evaluation, directory: Path) -> np.ndarray:
    """The picture, (height, width, 3)."""
    draw_confusion(result, directory / "confusion.png")
    with Image.open(directory / "confusion.png") as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture - colour).max(axis=2) <= 3


def cells(picture: np.ndarray, classes: int) -> list[list[np.ndarray]]:
    """The matrix's cells, without their rims; the matrix is as wide as 800 pixels allow, after its frame's left end."""
    side = 800 // classes * classes
    dark = near(picture, (0, 0, 0))
    top = int(np.argmax(dark.sum(axis=1) >= side))
    left = int(np.argmax(dark.sum(axis=0) >= side))
    size = side // classes
    return [
        [
            picture[top + r * size + 6 : top + (r + 1) * size - 6, left + c * size + 6 : left + (c + 1) * size - 6]
            for c in range(classes)
        ]
        for r in range(classes)
    ]


def share(cell: np.ndarray, colour: tuple[int, int, int]) -> float:
    """Of a cell's pixels the share that has this colour; a number may stand in it."""
    return float(near(cell, colour).mean())


def test_rows_are_true_classes_and_columns_answers(tmp_path: Path) -> None:
    found = cells(pixels(evaluation([[0, 0, 7], [0, 5, 0], [0, 900, 0]]), tmp_path), 3)
    for row, answer in enumerate((2, 1, 1)):
        for column in range(3):
            assert share(found[row][column], FULL if column == answer else EMPTY) > 0.98


def test_a_cell_is_as_dark_as_its_share_of_the_row(tmp_path: Path) -> None:
    """50 of 200 is as dark as 1 of 4, and lighter than 3 of 4; without images a class is neither."""
    found = cells(pixels(evaluation([[150, 50, 0], [1, 3, 0], [0, 0, 0]]), tmp_path), 3)
    colours = [[np.median(cell.reshape(-1, 3), axis=0).tolist() for cell in row] for row in found]
    assert colours[0][1] == colours[1][0] and colours[0][0] == colours[1][1]
    assert sum(colours[0][0]) < sum(colours[0][1]) < sum(EMPTY)
    assert all(share(cell, GREY) > 0.98 for cell in found[2])


@pytest.mark.parametrize(("classes", "counted"), [(20, True), (21, False)])
def test_few_classes_have_their_counts_in_the_cells(tmp_path: Path, classes: int, counted: bool) -> None:
    found = cells(pixels(evaluation(8 * np.eye(classes, dtype=int)), tmp_path), classes)
    assert all((share(found[i][i], FULL) < 1) == counted for i in range(classes))
    assert all(share(found[i][i - 1], EMPTY) == 1 for i in range(classes))


@pytest.mark.parametrize(("classes", "named"), [(30, True), (31, False)])
def test_few_classes_have_their_names_beside_them(tmp_path: Path, classes: int, named: bool) -> None:
    names = tuple(f"{i:02d}" for i in range(classes))
    plain = pixels(evaluation(np.eye(classes), names), tmp_path)
    other = pixels(evaluation(np.eye(classes), (*names[:-1], "a much longer name")), tmp_path)
    assert (plain.shape != other.shape) == named


def test_a_thousand_classes_have_a_pixel_each(tmp_path: Path) -> None:
    picture = pixels(evaluation(np.eye(1000)[::-1]), tmp_path)
    rows, columns = np.nonzero(near(picture, FULL))
    on_diagonal = np.bincount(rows + columns).max()
    assert 990 <= on_diagonal <= 1000  # the frame covers some
    assert max(picture.shape) < 1300


@pytest.mark.parametrize("name", ["$\\frac$", "$5 and $10", "two\nlines", "\t", "x" * 300, "鳥"])
@pytest.mark.filterwarnings("ignore:Glyph")  # of scripts that matplotlib's font lacks
def test_no_name_breaks_the_picture(tmp_path: Path, name: str) -> None:
    found = pixels(evaluation(np.eye(2), (name, "b")), tmp_path)
    assert max(found.shape) < 1300 and share(cells(found, 2)[0][0], FULL) > 0.98


# --- the files --------------------------------------------------------------------------------------------------------


def test_reports_replace_older_ones(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    prepare(directory)
    assert list(directory.iterdir()) == []
    for confusion in (CONFUSION, np.eye(4)):
        write_reports(evaluation(confusion, NAMES), {"top1_accuracy": 50.0}, directory)
    assert sorted(path.name for path in directory.iterdir()) == sorted(reports.FILES)
    assert json.loads((directory / "evaluation.json").read_text()) == {"top1_accuracy": 50.0}
    assert "the" in (directory / "classes.csv").read_text()
    assert share(cells(pixels(evaluation(np.eye(4)), tmp_path), 4)[1][1], FULL) > 0.98


def test_a_failure_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, output = evaluation(CONFUSION, NAMES), tmp_path / "classes.csv"
    write_classes(result, output)
    before = output.read_text()

    def full(result: Evaluation) -> object:
        yield ("half",)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports, "_class_rows", full)
    with pytest.raises(InputError, match=r"classes\.csv cannot be written: No space left on device"):
        write_classes(result, output)
    assert output.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["classes.csv"]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be written: File exists\. Give another directory"):
        prepare(tmp_path / "file")
    (tmp_path / "confusion.png").mkdir()
    with pytest.raises(InputError, match=r"confusion\.png is a directory"):
        prepare(tmp_path)
    with pytest.raises(InputError, match="/proc/reports cannot be written"):
        prepare(Path("/proc/reports"))


def test_without_matplotlib_the_reports_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ZooError, match=r"pip install 'mpncov-zoo\[training\]'"):
        prepare(tmp_path / "reports")
    assert not (tmp_path / "reports").exists()
