"""The charts of the demonstration page, as SVG and HTML that take the page's colours, light or dark."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

Prediction = Sequence[tuple[str, float]]  # label and probability, best first

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 360, 210, 56, 34, 8, 10
_DECADES = 5  # of the eigenvalues' shares: from 100 % down to 0.001 %


def bars(prediction: Prediction) -> str:
    """The most probable classes as a list with bars: its text says all that the bars show."""
    rows = "".join(
        f'<li><span class="mz-label">{escape(label)}</span><span class="mz-percent">{100 * share:.1f} %</span>'
        f'<span class="mz-bar" aria-hidden="true"><span style="width:{share:.2%}"></span></span></li>'
        for label, share in prediction
    )
    return f'<ol class="mz-bars">{rows}</ol>'


def spectrum_chart(curves: Mapping[str, np.ndarray], description: str) -> str:
    """Eigenvalues by size, each as a share of their sum, both axes logarithmic.

    Args:
        curves: for each name the eigenvalues, (d,), largest first; a curve ends where they become zero.
        description: what a reader who does not see the chart is told.
    """
    count = max(map(len, curves.values()))
    lines = "".join(
        f'<polyline class="mz-curve mz-curve-{number}" points="{_points(values, count)}"/>'
        for number, values in enumerate(curves.values())
    )
    keys = "".join(
        f'<li><span class="mz-key mz-curve-{number}" aria-hidden="true"></span>{escape(name)}</li>'
        for number, name in enumerate(curves)
    )
    chart = (
        f'<svg class="mz-chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{_axes(count)}{lines}</svg>"
    )
    return f'{chart}<ul class="mz-keys">{keys}</ul>'


def shares(values: np.ndarray) -> np.ndarray:
    """Eigenvalues (d,) as shares of their sum, (d,); zeros where all are zero."""
    total = values.sum()
    return values / total if total > 0 else values


def _points(values: np.ndarray, count: int) -> str:
    found = shares(values)
    visible = found[found > 10.0**-_DECADES]
    return " ".join(f"{_x(index, count):.1f},{_y(share):.1f}" for index, share in enumerate(visible, start=1))


def _x(index: float, count: int) -> float:
    """The place of the eigenvalue of that number, counted from 1."""
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * np.log(index) / np.log(max(count, 2))


def _y(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * -np.log10(share) / _DECADES


def _axes(count: int) -> str:
    """Lines and numbers of the axes."""
    parts = []
    for decade in range(_DECADES + 1):
        y = _y(10.0**-decade)
        parts.append(f'<line class="mz-grid-line" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{100 / 10**decade:g} %</text>')
    for index in [*(4**power for power in range(6) if 4**power < count / 2), count]:
        anchor = "end" if index == count else "middle"
        parts.append(f'<text x="{_x(index, count):.1f}" y="{_HEIGHT - 20}" text-anchor="{anchor}">{index}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return "".join(parts) + f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">eigenvalue, by size</text>'
