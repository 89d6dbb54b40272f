"""Mean average precision against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from benchmarks import retrieval


def test_the_mean_over_queries_of_the_average_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    classes = np.array([*range(5)] * 9 + [7])  # and one that is alone
    vectors = rng.normal(size=(46, 8)) + np.eye(8)[classes]
    monkeypatch.setattr(retrieval, "QUERIES", 20)
    precision, first = retrieval.retrieval(vectors, classes)
    cosines = cosine_similarity(vectors)
    truths, nearest = [], []
    for query in range(45):
        others = np.arange(46) != query
        relevant = classes[others] == classes[query]
        truths.append(average_precision_score(relevant, cosines[query][others]))
        nearest.append(relevant[cosines[query][others].argmax()])
    assert precision == pytest.approx(np.mean(truths), abs=1e-6) and first == np.mean(nearest)
