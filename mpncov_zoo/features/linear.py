"""A linear classifier on features: a support vector machine, its constant by cross-validation, its probabilities.

scikit-learn does the fitting. Where there are more features than images, it gets coordinates of the images instead of
their features. These have the same products up to rounding, so the classifier is the same. They need memory for images
by images only.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from mpncov_zoo.errors import InputError, ZooError

CONSTANTS = (0.1, 1.0, 10.0, 100.0)  # C of the machine, for features of length 1
FOLDS = 3
BLOCK = 1000  # images whose features are in memory at once, as float32
logger = logging.getLogger(__name__)
JITTERS = (1e-6, 1e-5, 1e-4, 1e-3)  # of the products' mean diagonal: what rounding may have cost


@dataclass(frozen=True)
class Linear:
    """logits = x weights + bias, of float64.

    Attributes:
        weights: (features, classes).
        bias: (classes,).
        constant: the C that cross-validation chose.
    """

    weights: np.ndarray
    bias: np.ndarray
    constant: float

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(images, features) -> (images, classes)."""
        return x @ self.weights + self.bias


@dataclass(frozen=True)
class Coordinates:
    """Images as rows whose products are those of their features.

    Attributes:
        training: (images, coordinates).
        test: the same of other images.
        factor: lower triangle L with training = L; None where the coordinates are the features themselves.
    """

    training: np.ndarray
    test: np.ndarray
    factor: np.ndarray | None

    def in_features(self, found: Linear, features: np.ndarray, training: np.ndarray) -> Linear:
        """A classifier on coordinates as the same one on features; `training` are the rows of the training images."""
        if self.factor is None:
            return found
        from scipy.linalg import solve_triangular

        dual = solve_triangular(self.factor, found.weights, lower=True, trans=1)
        return replace(found, weights=sum(_rows(features, training[at]).T @ dual[at] for at in _blocks(len(training))))


def products(features: np.ndarray) -> np.ndarray | None:
    """All products of images with one another, float32 (images, images); None where the features are fewer.

    Args:
        features: (images, features), float16, which may be on disk.
    """
    count, dimension = features.shape
    if dimension <= count:
        return None
    result = np.empty((count, count), np.float32)
    for first in _blocks(count):
        rows = _rows(features, first)
        for second in _blocks(first.stop):
            result[first, second] = rows @ _rows(features, second).T
            result[second, first] = result[first, second].T
    return result


def coordinates(features: np.ndarray, gram: np.ndarray | None, training: np.ndarray, test: np.ndarray) -> Coordinates:
    """The images at these positions, in coordinates for `fit`; `gram` is of `products`."""
    if gram is None or features.shape[1] <= len(training):
        return Coordinates(features[training].astype(np.float64), features[test].astype(np.float64), None)
    from scipy.linalg import cholesky, solve_triangular

    for jitter in JITTERS:
        own = gram[np.ix_(training, training)].astype(np.float64)
        own.flat[:: len(own) + 1] += jitter * np.trace(own) / len(own)
        try:
            # The transpose, which is the same matrix, is in Fortran's order, and so is its factor: nothing is copied.
            factor = cholesky(own.T, lower=False, overwrite_a=True).T
            break
        except np.linalg.LinAlgError:
            continue
    else:
        raise InputError("The features of the training images are too much alike for a classifier.")
    others = solve_triangular(factor, gram[np.ix_(training, test)].astype(np.float64), lower=True).T
    return Coordinates(factor, others, factor)


def fit(x: np.ndarray, labels: np.ndarray, classes: int, *, balanced: bool = False, seed: int = 0) -> Linear:
    """Fit the machine, one class against the rest.

    C is the one of CONSTANTS with the best accuracy in cross-validation. The logits are the machine's decisions times
    one factor, so that their softmax is most likely for the images that were left out (temperature scaling: Guo,
    Pleiss, Sun, Weinberger, ICML 2017); which class is the largest stays as it is.

    Args:
        x: (images, features), of about length 1.
        labels: (images,), from 0.
        classes: how many there are, each with two images or more.
        balanced: weigh classes by the inverse of their size.
        seed: of the folds and of the machine.

    Returns:
        The classifier, whose weights are (features, classes).
    """
    left_out = {constant: np.empty((len(x), classes)) for constant in CONSTANTS}
    for constant, (kept, out) in product(CONSTANTS, _folds(labels, seed)):  # threads would share scikit-learn's seed
        left_out[constant][out] = _machine(x[kept], labels[kept], constant, balanced, seed).logits(x[out])
    best = max(CONSTANTS, key=lambda constant: np.mean(left_out[constant].argmax(1) == labels))
    factor = _temperature(left_out[best], labels)
    machine = _machine(x, labels, best, balanced, seed)
    return replace(machine, weights=machine.weights * factor, bias=machine.bias * factor)


def require_scikit_learn(what: str = "A probe needs") -> None:
    """Refuse to begin without the library.

    Args:
        what: the beginning of the message.

    Raises:
        ZooError: it is not installed.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ZooError(f"{what} scikit-learn: pip install 'mpncov-zoo[features]'.") from None


def _machine(x: np.ndarray, labels: np.ndarray, constant: float, balanced: bool, seed: int) -> Linear:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    weight = "balanced" if balanced else None
    options = {"class_weight": weight, "dual": len(x) <= x.shape[1], "random_state": seed, "max_iter": 2000}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        machine = LinearSVC(C=constant, **options).fit(x, labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        logger.info("C %g: the machine has not converged after %d steps", constant, options["max_iter"])
    weights, bias = machine.coef_.T, np.asarray(machine.intercept_)
    if weights.shape[1] == 1:  # two classes have one decision
        weights, bias = weights * [-0.5, 0.5], bias * [-0.5, 0.5]
    return Linear(weights, bias, constant)


def _folds(labels: np.ndarray, seed: int) -> list[tuple[Any, Any]]:
    from sklearn.model_selection import StratifiedKFold

    count = min(FOLDS, int(np.bincount(labels).min()))
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))


def _temperature(decisions: np.ndarray, labels: np.ndarray) -> float:
    """The factor with the highest likelihood.

    Of each label the share 1 / (n + 2) is spread over all classes, in the manner of Platt (1999). Otherwise no factor
    would be large enough where all n answers are right, as they often are on few images.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    any_class = 1 / (len(labels) + 2)

    def loss(exponent: float) -> float:
        likelihoods = log_softmax(np.exp(exponent) * decisions, axis=1)
        return -(1 - any_class) * likelihoods[np.arange(len(labels)), labels].mean() - any_class * likelihoods.mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 6), method="bounded").x))


def _blocks(count: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def _rows(features: np.ndarray, at: slice | np.ndarray) -> np.ndarray:
    return features[at].astype(np.float32)
