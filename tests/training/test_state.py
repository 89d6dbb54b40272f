"""The state of a network and its optimiser on file."""

from pathlib import Path

import keras
import numpy as np

from mpncov_zoo.assembly import precision
from mpncov_zoo.training.optimization import compile_for
from mpncov_zoo.training.recipes import load_recipe
from mpncov_zoo.training.state import read_history, restore_state, save_state
from tests import networks


def test_a_state_goes_into_a_network_that_has_not_learned_yet(tmp_path: Path) -> None:
    """Under mixed_float16 Keras wraps the optimiser to scale the loss: variables of both are in the state."""
    recipe = load_recipe("fashion_mnist", ["optimizer.accumulate=2", "ema=0.9", "precision=mixed_float16"])

    def compiled() -> keras.Model:
        with precision("mixed_float16"):
            model = networks.tiny()
        compile_for(model, recipe, steps=3)
        return model

    one, other = compiled(), compiled()
    images = np.random.default_rng(0).normal(size=(2, *one.input_shape[1:])).astype(np.float32)
    for _ in range(2):
        one.train_on_batch(images, np.array([0, 1]))
    save_state(tmp_path / "state.npz", one, [{"epoch": 1.0}])
    restore_state(tmp_path / "state.npz", other, optimizer=True)
    assert read_history(tmp_path / "state.npz") == [{"epoch": 1.0}]
    for a, b in zip(
        [*one.variables, *one.optimizer.variables], [*other.variables, *other.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
