"""How a recipe's network learns: optimiser, schedule, loss, and what makes a resumed run equal an uninterrupted one."""

from typing import Any

import keras

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.training.recipes import Recipe


def compile_for(model: ImageClassifier, recipe: Recipe, steps: int) -> None:
    """Give the model the recipe's optimiser, schedule and loss; `steps` batches are an epoch."""
    settings = recipe.optimizer
    warmup = settings.warmup_epochs * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=recipe.epochs * steps - warmup,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = CoupledSGD(
        schedule, momentum=settings.momentum, nesterov=settings.nesterov, coupled_decay=settings.weight_decay
    )
    loss = SmoothedCrossentropy(recipe.label_smoothing)
    model.compile(
        optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")], jit_compile=False
    )


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is added to the gradient before the momentum, as PyTorch and the published code do.

    Keras' own `weight_decay` is decoupled: it shrinks the variables after the step.
    """

    def __init__(self, *args: Any, coupled_decay: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.coupled_decay = coupled_decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        super().update_step(gradient + self.coupled_decay * variable, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coupled_decay": self.coupled_decay}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits (batch, classes) with whole-number labels (batch,), optionally smoothed."""

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy"):
        super().__init__(name=name)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        classes = y_pred.shape[-1]
        targets = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), classes)
        return keras.losses.categorical_crossentropy(
            targets, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        return {"label_smoothing": self.label_smoothing, "name": self.name}


class DropoutByEpoch(keras.callbacks.Callback):
    """Makes dropout's random state depend on the seed and the epoch alone, as the batches do.

    Keras' backup does not hold that state: a resumed run would repeat the masks of the first epochs.

    Args:
        steps: batches an epoch. A run that is not interrupted has the same masks with this callback as without.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Count the state on to the epoch's first batch."""
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign([seed, epoch * self.steps])
