"""Where the stages of every trunk are, at the published size of images: a table, so that nobody builds networks to ask.

`python -m tests.test_trunk_stages` writes it anew from the networks; the test holds it to them.
"""

import functools
import json
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_suffix(".json")


class TrunkStage(NamedTuple):
    """A stage of a trunk, as `stages=` names it: its positions and channels."""

    name: str
    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.name}: {self.height}x{self.width} positions, {self.channels} channels"


def trunk_stages(model: str) -> tuple[TrunkStage, ...]:
    """The stages of a model's whole trunk, in order.

    Args:
        model: a name of `mpncov_zoo.list_models()`; other models stand on the trunk of one of these.
    """
    return tuple(TrunkStage(*row) for row in _table()[model])


@functools.cache
def _table() -> dict[str, list[list]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))
