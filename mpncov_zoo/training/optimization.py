"""The optimiser, the schedule and the loss of a recipe; a resumed run computes what an uninterrupted one does."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.training.recipes import Recipe


def compile_for(model: ImageClassifier, recipe: Recipe, steps: int) -> None:
    """Give a model the optimiser, the schedule and the loss of a recipe; an epoch has `steps` batches."""
    settings = recipe.optimizer
    optimizer = CoupledSGD(
        schedule(recipe, steps),
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        accumulate=settings.accumulate,
        coupled_decay=settings.weight_decay,
        undecayed=() if settings.decay_all else _norms_and_biases(model),
        factors=_classifier_factors(model, settings.classifier_factor),
        use_ema=recipe.ema > 0,
        ema_momentum=recipe.ema,
        name="sgd",  # else Keras numbers it, and with it the names of its variables
    )
    loss = SmoothedCrossentropy(recipe.label_smoothing)
    model.compile(
        optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")], jit_compile=False
    )
    model.optimizer.build(model.trainable_variables)  # here, so that a resumed run has the same variables, named alike


def schedule(recipe: Recipe, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate by the number of batches seen, accumulated or not; an epoch has `steps` batches."""
    settings = recipe.optimizer
    warmup = settings.warmup_epochs * steps
    if settings.schedule != "cosine":
        boundaries = tuple(epoch * steps for epoch in settings.step_epochs)
        return StepSchedule(settings.learning_rate, warmup, boundaries, settings.step_factor)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else settings.learning_rate,
        decay_steps=recipe.epochs * steps - warmup,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class StepSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from zero, then steps down.

    Args:
        learning_rate: at the end of the warm-up.
        warmup: batches.
        boundaries: batches after each of which the rate is multiplied by `factor`.
        factor: at each boundary.
    """

    def __init__(self, learning_rate: float, warmup: int, boundaries: Sequence[int], factor: float):
        super().__init__()
        self.learning_rate, self.warmup, self.factor = learning_rate, warmup, factor
        self.boundaries = tuple(boundaries)

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, which is counted from 0, as a float32 scalar."""
        step = keras.ops.cast(step, "float32")
        passed = sum((keras.ops.cast(step >= boundary, "float32") for boundary in self.boundaries), 0.0)
        rate = self.learning_rate * keras.ops.power(self.factor, passed)
        return rate * keras.ops.minimum(1.0, step / self.warmup) if self.warmup else rate + 0.0 * step

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "warmup": self.warmup,
            "boundaries": self.boundaries,
            "factor": self.factor,
        }


def _all_finite(tensor: Any) -> Any:
    return keras.ops.all(keras.ops.isfinite(tensor))


def _norms_and_biases(model: ImageClassifier) -> tuple[str, ...]:
    learned = model.learned_variables()
    return tuple(v.path for name, v in learned.items() if name.rpartition("/")[2] in ("gamma", "beta", "bias"))


def _classifier_factors(model: ImageClassifier, factor: float) -> dict[str, float]:
    learned = model.learned_variables() if factor != 1 else {}
    return {v.path: factor for name, v in learned.items() if name.startswith("classifier/")}


@keras.saving.register_keras_serializable(package="mpncov_zoo")
class CoupledSGD(keras.optimizers.SGD):
    """SGD whose weight decay is added to the gradient before the momentum, as PyTorch and the published code do.

    Keras' own `weight_decay` is decoupled: it shrinks the variables after the step. Gradients of which
    one is not finite change no variable and are counted, so that what went wrong can still be found out.

    Args:
        coupled_decay: coefficient of the L2 penalty's gradient.
        undecayed: paths of variables without it.
        factors: of the learning rate, by the path of a variable; 1 for others.
        accumulate: gradients whose mean makes one step. Keras' own accumulation does not work for several replicas.

    Attributes:
        failures: a variable that counts how often gradients were not finite.
    """

    def __init__(
        self,
        *args: Any,
        coupled_decay: float = 0.0,
        undecayed: Sequence[str] = (),
        factors: Mapping[str, float] | None = None,
        accumulate: int = 1,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.accumulate = accumulate
        self.coupled_decay = coupled_decay
        self.undecayed = frozenset(undecayed)
        self.factors = dict(factors or {})

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Note what applies to which variable: a step sees TensorFlow's, which have no paths."""
        decays = (0.0 if variable.path in self.undecayed else self.coupled_decay for variable in variables)
        factors = (self.factors.get(variable.path, 1.0) for variable in variables)
        self._rules = list(zip(decays, factors, strict=True))
        self.failures = keras.Variable(0, dtype="int32", trainable=False, name="failures", aggregation="sum")
        super().build(variables)
        self._sums = self.add_optimizer_variables(variables, "sum") if self.accumulate > 1 else []

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> Any:
        """One step, of all variables."""
        if not self.built:
            self.build(trainable_variables)  # pyright: ignore[reportArgumentType]
        finite = keras.ops.all(keras.ops.stack([_all_finite(gradient) for gradient in grads]))
        self.failures.assign_add(keras.ops.cast(keras.ops.logical_not(finite), "int32"))
        # One that is not finite spoils all, on this replica and, since gradients are summed, on the others: none steps.
        grads = keras.ops.cond(finite, lambda: list(grads), lambda: [gradient * np.nan for gradient in grads])
        return super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step; of several gradients, with the last of them."""
        update = self._step if self.accumulate == 1 else self._accumulate
        index = self._get_variable_index(variable)
        keras.ops.cond(_all_finite(gradient), lambda: update(index, gradient, variable, learning_rate), lambda: None)

    def _accumulate(self, index: int, gradient: Any, variable: Any, learning_rate: Any) -> None:
        total = self._sums[index]
        self.assign_add(total, gradient)

        def step() -> None:
            self._step(index, total / self.accumulate, variable, learning_rate)
            self.assign(total, keras.ops.zeros_like(total))

        keras.ops.cond((self.iterations + 1) % self.accumulate == 0, step, lambda: None)

    def _step(self, index: int, gradient: Any, variable: Any, learning_rate: Any) -> None:
        decay, factor = self._rules[index]
        step, rate = super().update_step, learning_rate if factor == 1 else learning_rate * factor
        step(gradient + decay * variable if decay else gradient, variable, rate)

    def get_config(self) -> dict[str, Any]:
        own = {"coupled_decay": self.coupled_decay, "undecayed": sorted(self.undecayed), "factors": self.factors}
        own["accumulate"] = self.accumulate
        return {**super().get_config(), **own}


def inner(optimizer: Any) -> CoupledSGD:
    """The optimiser itself, where Keras wrapped it to scale the loss (mixed_float16)."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def averages(model: keras.Model) -> Mapping[str, Any]:
    """The moving averages of a compiled model's learned variables, by their paths; empty without `ema`."""
    optimizer = inner(model.optimizer)
    if not (optimizer.use_ema and optimizer.built):
        return {}
    kept = optimizer._model_variables_moving_average
    return {variable.path: average for variable, average in zip(model.trainable_variables, kept, strict=True)}


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
