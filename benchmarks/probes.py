"""Draws the pictures of docs/second_order.md from the reports of `mpncov-zoo probe --json`, and prints its tables.

    python -m benchmarks.probes [docs/probes]

The reports are called `<data>_<features>.json`. Digits at the end of `<data>` are the percent of each class to learn
from, or the size of the images. Needs matplotlib.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpncov_zoo.training.evaluate import Evaluation
from mpncov_zoo.training.reports import draw_confusion

Report = Mapping[str, Any]
FEATURES = {
    "gap_head": "`gap` of the head",
    "gap_56h": "`gap` of stages 5, 6 and head",
    "gap_57h": "`gap` of stages 5, 7 and head",
    "mpncov_5": "`mpncov` of stage 5",
    "mpncov_56": "`mpncov` of stages 5 and 6",
    "mpncov_57": "`mpncov` of stages 5 and 7",
    "bcnn_5": "`bcnn` of stage 5",
    "cbp_5": "`cbp` of stage 5",
}
CURVES = ("gap_head", "gap_56h", "mpncov_5", "mpncov_56")
CONFUSED = ("aid10_mpncov_56", "aid10_mpncov_5")  # the best two
PAIRS = 5  # of classes in the list of those that are taken for one another most often


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("docs/probes"), help="of the reports")
    directory = parser.parse_args().directory
    reports = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
    for data in dict.fromkeys(name.split("_")[0] for name in reports):
        print(f"\n{data}\n\n{table({key: reports.get(f'{data}_{key}') for key in FEATURES}, data)}")
    draw_curves(reports, directory / "aid_curves.png")
    for name in CONFUSED:
        found = as_evaluation(reports[name])
        draw_confusion(found, directory / f"{name}.png")
        print(f"\n{name}: {most_confused(found)}")


def table(reports: Mapping[str, Report | None], data: str) -> str:
    """A row for each report that there is, as Markdown; the best top-1 accuracy is bold."""
    found = {key: report for key, report in reports.items() if report is not None}
    best = max(found, key=lambda key: found[key]["top1"]["mean"])
    lines = ["| features | dimension | top-1 | balanced accuracy | report |", "|---|---|---|---|---|"]
    for key, report in found.items():
        top1, balanced = (shown(report[score]) for score in ("top1", "balanced_accuracy"))
        top1 = f"**{top1}**" if key == best else top1
        link = f"[json](probes/{data}_{key}.json)"
        lines.append(f"| {FEATURES[key]} | {report['dimension']:,} | {top1} | {balanced} | {link} |")
    return "\n".join(lines)


def shown(score: Report) -> str:
    """Mean and standard deviation in percent; a data set's own split has no deviation."""
    spread = f" ± {100 * score['std']:.2f}" if len(score["splits"]) > 1 else ""
    return f"{100 * score['mean']:.2f}{spread} %"


def draw_curves(reports: Mapping[str, Report], path: Path) -> None:
    """Accuracy on AID against the share of each class to learn from, a line for each kind of features."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for key in CURVES:
        points = sorted(
            (100 * report["train"], 100 * report["top1"]["mean"], 100 * report["top1"]["std"])
            for name, report in reports.items()
            if name.startswith("aid") and name.partition("_")[2] == key
        )
        share, mean, spread = np.transpose(points)
        axes.errorbar(share, mean, spread, marker="o", capsize=3, label=FEATURES[key].replace("`", ""))
    axes.set(xscale="log", xlabel="percent of each class to learn from", ylabel="top-1 accuracy (%)")
    ticks = sorted({100 * report["train"] for name, report in reports.items() if name.startswith("aid")})
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def as_evaluation(report: Report) -> Evaluation:
    """The confusion of all splits together; what a report does not hold is not a number."""
    confusion, top1 = np.asarray(report["confusion"]), 100 * report["top1"]["mean"]
    return Evaluation(top1, float("nan"), float("nan"), confusion, tuple(report["class_names"]))


def most_confused(found: Evaluation) -> str:
    """The pairs of a true class and an answer that are most frequent, in percent of the true class's images."""
    shares = 100 * found.confusion / found.confusion.sum(axis=1, keepdims=True)
    np.fill_diagonal(shares, 0)
    pairs = [np.unravel_index(at, shares.shape) for at in np.argsort(-shares, axis=None)[:PAIRS]]
    return ", ".join(f"{found.class_names[i]} as {found.class_names[j]} {shares[i, j]:.1f} %" for i, j in pairs)


if __name__ == "__main__":
    main()
