"""The command `mpncov-zoo list`, which shows the models, or the published weights with what one needs to choose."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from mpncov_zoo import registry
from mpncov_zoo.catalog import ModelInfo, info, list_models
from mpncov_zoo.cli.options import PROGRAM, add_command, add_json

TITLES = ("NAME", "CLASSES", "TOP-1", "MEASURED BY", "SIZE", "LICENCE", "AVAILABLE")
ORIGINS = {"measured here": "mpncov_zoo", "reported by upstream": "its authors", "paper": "the paper"}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "list",
        run,
        help="list the models, one name a line, or the published weights as a table",
        details="With --pretrained the columns are: name; classes, or that only the trunk has weights; top-1 accuracy\n"
        "and who measured it; size; licence of the weights; whether they are on this machine, or what brings them.\n"
        "The exit code is 1 where nothing matches.",
        example=f"{PROGRAM} list 'mpncov_*' --pretrained",
    )
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="shell wildcards, in quotes")
    parser.add_argument("--pretrained", action="store_true", help="list the published sets of weights, NAME.TAG")
    add_json(parser, "one JSON array, of names or, with --pretrained, of objects")


def run(args: argparse.Namespace) -> int:
    """Print the names, or the table."""
    names = list_models(args.pattern, pretrained=args.pretrained)
    if not names:
        what = "weights match" if args.pretrained else "model matches"
        print(f"{PROGRAM}: no {what} {args.pattern!r}", file=sys.stderr)
    if args.pretrained and names:
        order = list(registry.MODELS)  # in families, each backbone with all that stands on it
        found = [info(name) for name in sorted(names, key=lambda name: order.index(name.partition(".")[0]))]
        print(json.dumps([_plain(facts) for facts in found]) if args.json else _table([_row(facts) for facts in found]))
    elif args.json:
        print(json.dumps(names))
    else:
        print("".join(f"{name}\n" for name in names), end="")
    return 0 if names else 1


def _accuracy(facts: ModelInfo) -> tuple[float, str] | None:
    """Top-1 accuracy in percent of these very weights, and where the number comes from."""
    for metric in facts.metrics:
        if metric.origin != "paper" and metric.name in ("top-1 accuracy", "top-1 error"):
            return (metric.value if metric.name == "top-1 accuracy" else 100 - metric.value), metric.origin
    return None


def _plain(facts: ModelInfo) -> dict[str, Any]:
    accuracy = _accuracy(facts)
    return {
        "name": facts.name,
        "num_classes": facts.num_classes,
        "trunk_only": facts.trunk_only,
        "top1_accuracy": accuracy and round(accuracy[0], 2),
        "origin": accuracy and accuracy[1],
        "size_bytes": facts.size_bytes,
        "weights_licence": facts.weights_licence,
        "available": facts.available,
    }


def _row(facts: ModelInfo) -> tuple[str, ...]:
    accuracy = _accuracy(facts)
    return (
        facts.name,
        "trunk only" if facts.trunk_only else str(facts.num_classes),
        f"{accuracy[0]:.2f} %" if accuracy else "-",
        ORIGINS[accuracy[1]] if accuracy else "-",
        f"{facts.size_bytes / 1e6:.1f} MB" if facts.size_bytes else "-",
        (facts.weights_licence or "-").partition(";")[0],
        facts.available or "-",
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """The rows under their titles, in columns."""
    lines = [TITLES, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
