"""The linear classifier: the same in features and in coordinates, with probabilities that mean something."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.svm import LinearSVC

from mpncov_zoo.errors import InputError
from mpncov_zoo.features import linear
from mpncov_zoo.features.linear import coordinates, fit, products


def classes(
    images: int, features: int, count: int, spread: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images around the centres of their classes, of length 1, float16; and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % count
    x = rng.normal(0, 1, (count, features))[labels] + spread * rng.normal(0, features**0.5 / 3, (images, features))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16), labels


def test_products_are_those_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "BLOCK", 7)
    x, _ = classes(20, 50, 3)
    exact = x.astype(np.float64) @ x.astype(np.float64).T
    np.testing.assert_allclose(products(x), exact, atol=1e-6)
    assert products(x[:, :20]) is None  # no more features than images: there is nothing to gain


@pytest.mark.parametrize("count", [2, 3])
def test_coordinates_make_the_classifier_of_the_features(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn on the features themselves is the truth."""
    monkeypatch.setattr(linear, "CONSTANTS", (1.0,))
    monkeypatch.setattr(linear, "BLOCK", 16)
    x, labels = classes(90, 200, count)
    training, test = np.arange(45), np.arange(45, 90)
    place = coordinates(x, products(x), training, test)
    assert place.training.shape == (45, 45)
    machine = fit(place.training, labels[training], count)
    given = place.in_features(machine, x, training)
    logits = given.logits(x[test].astype(np.float64))
    np.testing.assert_allclose(machine.logits(place.test), logits, atol=2e-3 * np.abs(logits).max())
    exact = LinearSVC(C=1.0, random_state=0).fit(x[training].astype(np.float64), labels[training])
    decisions = exact.decision_function(x[test].astype(np.float64))
    if count == 2:
        decisions = np.stack([-decisions, decisions], axis=1) / 2
    factor = np.linalg.norm(logits) / np.linalg.norm(decisions)  # of the temperature
    np.testing.assert_allclose(logits, factor * decisions, atol=5e-3 * np.abs(logits).max())


def test_probabilities_are_as_sure_as_the_classifier_is_right() -> None:
    x, labels = classes(600, 40, 4, spread=1.2)
    machine = fit(x[:300].astype(np.float64), labels[:300], 4)
    logits = machine.logits(x[300:].astype(np.float64))
    shares = np.exp(logits - logits.max(1, keepdims=True))
    sure = (shares / shares.sum(1, keepdims=True)).max(1).mean()
    right = (logits.argmax(1) == labels[300:]).mean()
    assert 0.5 < right < 0.98 and abs(sure - right) < 0.07


def test_a_balanced_classifier_minds_the_rare_class() -> None:
    x, labels = classes(300, 20, 2, spread=1.5)
    kept = np.flatnonzero((labels == 0) | (np.arange(300) % 20 == 1))
    recalls = []
    for balanced in (False, True):
        machine = fit(x[kept].astype(np.float64), labels[kept], 2, balanced=balanced)
        rare = np.setdiff1d(np.flatnonzero(labels == 1), kept)
        recalls.append((machine.logits(x[rare].astype(np.float64)).argmax(1) == 1).mean())
    assert recalls[1] > recalls[0]


def test_equal_images_are_no_obstacle() -> None:
    x, labels = classes(12, 100, 3)
    doubled, twice = np.concatenate([x, x]), np.concatenate([labels, labels])
    place = coordinates(doubled, products(doubled), np.arange(24), np.arange(12))
    machine = fit(place.training, twice, 3)
    assert (machine.logits(place.test).argmax(1) == labels).all()


def test_features_that_are_all_zero_make_no_classifier() -> None:
    x = np.zeros((6, 10), np.float16)
    with pytest.raises(InputError, match="too much alike"):
        coordinates(x, products(x), np.arange(6), np.arange(0))


def test_the_same_seed_gives_the_same_bits() -> None:
    x, labels = classes(60, 80, 3)
    first, second = (fit(x.astype(np.float64), labels, 3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.bias, second.bias)


@pytest.mark.parametrize("images", [4, 100])
def test_answers_that_are_all_right_are_not_certain_for_that(images: int) -> None:
    """Their probability is that of the targets: of each label a share of 1 / (n + 2) is spread over the classes."""
    labels = np.arange(images) % 2
    decisions = np.where(labels[:, None] == [0, 1], 0.5, -0.5)
    probabilities = softmax(linear._temperature(decisions, labels) * decisions, axis=1)
    np.testing.assert_allclose(probabilities[np.arange(images), labels], 1 - 1 / (images + 2) / 2, atol=1e-4)
