"""How training images are divided where a data set does not do it: what is kept apart, and by which seed."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from mpncov_zoo.documents import StrictModel


class Shares(StrictModel):
    """The shares of every class that are kept apart from training.

    Attributes:
        test: for `evaluate`; no run looks at it. Of n images of a class it has round(test * n), and at least one.
        val: the same, for measuring every epoch.
        seed: of the choice, which is another one than the seed of the training.
    """

    test: float = Field(default=0.0, ge=0, lt=1)
    val: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="before")
    @classmethod
    def _is_section(cls, data: Any) -> Any:
        if not isinstance(data, dict | Shares):
            raise ValueError("it is a section of test, val and seed, for example split.test=0.2")
        return data

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if not 0 < self.test + self.val < 1:
            raise ValueError("test and val are shares, for example test=0.2, which together are above 0 and below 1")
        return self

    def parts(self) -> Mapping[str, float]:
        """The shares that are not 0, by the name of the part, "test" first: so it does not depend on `val`."""
        return {name: share for name, share in (("test", self.test), ("val", self.val)) if share}
