"""What a network's weights are and where they come from, as every network carries it."""

from collections.abc import Sequence
from dataclasses import dataclass

CONFIGURATION = "a Keras configuration"  # LoadReport.source of a reloaded .keras file


@dataclass(frozen=True)
class LoadReport:
    """What a network's weights are: where they come from, and what was loaded or left fresh.

    Attributes:
        weights: name of the weights set, "<model>.<tag>", or None for a freshly initialised network and for one on a
            Keras model.
        source: the directory they were read from, or the Keras model.
        trust: what the files were verified against.
        loaded: names of the variables that came from the weights set.
        fresh: names of the variables that keep their initial values.
        unused: names in the weights set that this network has no place for (a replaced classifier, say).
    """

    weights: str | None = None
    source: str | None = None
    trust: str | None = None
    loaded: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source == CONFIGURATION:
            return "built from a Keras configuration: its weights are what Keras assigned since, unverified"
        if self.weights is None and self.loaded:
            return f"{len(self.loaded)} variables of {self.source}, {len(self.fresh)} fresh ({_parts(self.fresh)})"
        if self.weights is None:
            return f"no pretrained weights: {len(self.fresh)} variables freshly initialised"
        fresh = f", {len(self.fresh)} left fresh ({_parts(self.fresh)})" if self.fresh else ""
        unused = f", {len(self.unused)} not used ({_parts(self.unused)})" if self.unused else ""
        return f"{self.weights}: {len(self.loaded)} variables loaded from {self.source}, {self.trust}{fresh}{unused}"


def _parts(names: Sequence[str]) -> str:
    return ", ".join(sorted({name.split("/")[0] for name in names}))
