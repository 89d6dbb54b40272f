"""The tensors that the published TensorFlow code wrote without names: as a list in a `.mat`, in groups in an `.h5`.

Both hold the network's layers in the order of upstream's tables, and within a layer the variables in Keras' order. The
golden logits of that code are what shows that the order is this one.
"""

from collections import Counter
from collections.abc import Iterable

from conversion.maps.tables import Row, Step

VARIABLES = {
    "conv": ("kernel",),
    "conv with bias": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
    "linear": ("kernel", "bias"),
}


def mat_steps(rows: list[Row]) -> list[Step]:
    """Entry i of the list is `params[i]`; vectors are stored as one row."""
    return [
        Step(f"params[{index}]", target, "as it is" if target.endswith("/kernel") else "first row")
        for index, target in enumerate(_targets(rows))
    ]


def h5_steps(rows: list[Row]) -> list[Step]:
    """The i-th tensor of a role, such as `kernel`, is `kernel[i]`: Keras may put statistics after all parameters."""
    targets = list(_targets(rows))
    return [
        Step(source, target, "as it is")
        for source, target in zip(count_by_role(t.rpartition("/")[2] for t in targets), targets, strict=True)
    ]


def count_by_role(roles: Iterable[str]) -> list[str]:
    """Number the tensors of each role: kernel, gamma, kernel become kernel[0], gamma[0], kernel[1]."""
    seen: Counter[str] = Counter()
    names = []
    for role in roles:
        names.append(f"{role}[{seen[role]}]")
        seen[role] += 1
    return names


def _targets(rows: list[Row]) -> Iterable[str]:
    return (f"{ours}/{variable}" for _, ours, kind in rows for variable in VARIABLES[kind])
