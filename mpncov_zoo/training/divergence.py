"""Stops a training run that diverged, and says in which batch and layer, and at which learning rate."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from mpncov_zoo.architectures import PARTS
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.training.optimization import inner

Batch = tuple[Any, Any]  # images float32 (batch, height, width, channels), labels int32 (batch,)


class DivergenceGuard(keras.callbacks.Callback):
    """Raises ZooError at the first batch whose loss or gradients are not finite.

    The optimiser leaves the weights as they were before that batch, so that the batch can be computed once more.

    Args:
        batch: returns a batch, given the epoch and the number of the batch in it, both counted from 0.
        epochs_done: returns how many complete epochs are on file.
    """

    def __init__(self, batch: Callable[[int, int], Batch], epochs_done: Callable[[], int]):
        super().__init__()
        self.batch, self.epochs_done = batch, epochs_done
        self._epoch, self._failures = 0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch, and how many failures were counted before it, which a resumed run brings along."""
        self._epoch = epoch
        self._failures = self._count()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Look at the loss, which is the mean of the epoch so far, and at the failures that the optimiser counted."""
        if math.isfinite((logs or {}).get("loss", 0.0)) and self._count() == self._failures:
            return
        self._stop(batch, self._where(batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Look at the variables that the last steps left, before they are saved."""
        bad = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        where = next(_broken_variables(self.model), f"the epoch's {bad[0]}" if bad else None)
        if where is not None:
            self._stop(self.params["steps"] - 1, where)

    def _stop(self, batch: int, where: str) -> NoReturn:
        optimizer = inner(self.model.optimizer)
        rate = float(optimizer._learning_rate(optimizer.iterations - 1))  # of the step that was taken
        done = self.epochs_done()
        kept = f"The state after epoch {done} is kept. Begin a new run" if done else "Begin a new run"
        raise ZooError(
            f"Training diverged in epoch {self._epoch + 1}, batch {batch + 1}, at a learning rate of {rate:.4g}: "
            f"{where} is not finite. {kept} with a lower optimizer.learning_rate or a longer warm-up."
        )

    def _where(self, batch: int) -> str:
        try:
            images, labels = self.batch(self._epoch, batch)
            return next(broken(self.model, images, labels), "a quantity that is finite when it is computed again")
        except tf.errors.OpError as error:  # one device has all that several shared
            return f"a quantity that could not be looked for ({reason(error)})"

    def _count(self) -> int:
        """How many gradients were not finite. A scaled loss counts only where no scale makes it finite."""
        optimizer = self.model.optimizer
        lost = int(optimizer.dynamic_scale.numpy() < 1) if isinstance(optimizer, LossScaleOptimizer) else 0
        return int(inner(optimizer).failures.numpy()) + lost


def reason(error: tf.errors.OpError) -> str:
    """What TensorFlow or `read_image` says was wrong, without the place in the graph."""
    last = re.sub(r"^{{.*?}} ", "", error.message).partition("[[{{")[0].strip().splitlines()[-1]
    return last.removeprefix(f"{InputError.__module__}.{InputError.__qualname__}: ")


def broken(model: ImageClassifier, images: Any, labels: Any) -> Iterator[str]:
    """The names of what is not finite when a network trains on a batch, in the order in which it is computed."""
    if not np.isfinite(np.asarray(images)).all():
        yield "the batch itself"
    yield from (name for name in _broken_variables(model) if not name.endswith(("/moving_mean", "/moving_variance")))
    yield from _broken_outputs(model, images)
    with tf.GradientTape() as tape:
        loss = model.loss(labels, model(images, training=True))
    named = {name: v for name, v in model.named_variables().items() if v.trainable}
    gradients = tape.gradient(loss, [v.value for v in named.values()])
    for name, gradient in reversed([*zip(named, gradients, strict=True)]):  # from the logits back to the image
        if gradient is not None and not np.isfinite(np.asarray(gradient)).all():
            yield f"the gradient of {name}"


def _broken_variables(model: ImageClassifier) -> Iterator[str]:
    for name, variable in model.named_variables().items():
        if not np.isfinite(variable.numpy()).all():
            yield f"the variable {name}"


def _broken_outputs(model: ImageClassifier, images: Any) -> Iterator[str]:
    x = images
    for part in (getattr(model, name) for name in PARTS):
        layers = [layer for layer in part.layers if not isinstance(layer, keras.layers.InputLayer)]
        outputs = keras.Model(part.input, [layer.output for layer in layers])(x, training=True)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        for layer, output in zip(layers, outputs, strict=True):
            if not np.isfinite(np.asarray(tf.cast(output, tf.float32))).all():
                yield f"the output of {part.name}/{layer.name}"
        x = part(x, training=True)
