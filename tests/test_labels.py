"""The names of ImageNet's classes."""

from pathlib import Path

from mpncov_zoo.labels import FOLDER, labels_of, read_labels

KNOWN = {  # class -> name, in the order of the logits
    0: "tench",
    134: "crane (bird)",
    207: "golden retriever",
    264: "Cardigan, Cardigan Welsh corgi",
    281: "tabby",
    474: "cardigan",
    517: "crane (machine)",
    609: "jeep",
    638: "maillot",
    639: "maillot, tank suit",
    999: "toilet tissue",
}


def test_a_thousand_different_names_in_the_order_of_the_logits() -> None:
    names = labels_of("imagenet_1k")
    assert names is not None and len({name.casefold() for name in names}) == len(names) == 1000
    assert all(name and name == name.strip() and "_" not in name for name in names)
    assert {index: names[index] for index in KNOWN} == KNOWN


def test_a_data_set_whose_classes_have_no_names_here() -> None:
    assert labels_of("toys") is None


def test_wordnets_licence_goes_with_its_words() -> None:
    licence = (FOLDER / "LICENSE.wordnet").read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "Permission to use, copy, modify and distribute" in licence


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")
