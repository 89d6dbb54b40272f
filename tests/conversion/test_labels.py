"""The names of ImageNet's classes."""

from pathlib import Path

import pytest

LABELS = Path(__file__).parents[2] / "conversion" / "labels"


def names() -> list[str]:
    return (LABELS / "imagenet_1k.txt").read_text(encoding="utf-8").split("\n")


def test_a_thousand_different_names() -> None:
    *lines, end = names()
    assert (len(lines), end) == (1000, "")
    assert len({line.casefold() for line in lines}) == 1000
    assert all(line and line == line.strip() and "_" not in line for line in lines)


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "tench"),
        (134, "crane (bird)"),
        (207, "golden retriever"),
        (264, "Cardigan, Cardigan Welsh corgi"),
        (281, "tabby"),
        (474, "cardigan"),
        (517, "crane (machine)"),
        (609, "jeep"),
        (638, "maillot"),
        (639, "maillot, tank suit"),
        (999, "toilet tissue"),
    ],
)
def test_names_are_in_the_order_of_the_logits(index: int, name: str) -> None:
    assert names()[index] == name


def test_wordnets_licence_goes_with_its_words() -> None:
    licence = (LABELS / "LICENSE.wordnet").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "Permission to use, copy, modify and distribute" in licence
