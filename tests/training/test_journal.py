"""Which epoch is the best, and when a run has had enough: by hand."""

import pytest

from mpncov_zoo.training.journal import best_epoch, stopped_early
from mpncov_zoo.training.recipes import load_recipe

ROWS = [{"val_accuracy": a, "val_loss": b} for a, b in ((0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.6, 0.1), (0.7, 0.8))]


@pytest.mark.parametrize(
    ("count", "first", "best"), [(0, 0, None), (1, 0, 0), (2, 0, 1), (5, 0, 2), (5, 3, 4), (2, 2, None)]
)
def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_came_first(
    count: int, first: int, best: int | None
) -> None:
    assert best_epoch(ROWS[:count], first) == best


def test_without_validation_there_is_no_best_epoch() -> None:
    assert best_epoch([{"accuracy": 0.5, "loss": 1.0}]) is None


def test_a_run_stops_when_its_patience_ends() -> None:
    recipe = load_recipe("fashion_mnist", ["holdout=10", "early_stop=2"])
    assert [stopped_early(recipe, ROWS[:count]) for count in range(6)] == [False, False, False, False, False, True]
    assert not stopped_early(load_recipe("fashion_mnist", ["holdout=10"]), ROWS)


def test_the_patience_begins_with_the_second_stage() -> None:
    stage = ["first_stage.epochs=3", "first_stage.optimizer.learning_rate=1"]
    recipe = load_recipe("fashion_mnist", ["holdout=10", "early_stop=1", *stage])
    assert [stopped_early(recipe, ROWS[:count]) for count in range(6)] == [False] * 6
    assert stopped_early(recipe, [*ROWS, {"val_accuracy": 0.1, "val_loss": 1.0}])
