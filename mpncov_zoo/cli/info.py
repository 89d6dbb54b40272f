"""The command `mpncov-zoo info`, which shows the facts about a model."""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from mpncov_zoo.catalog import ModelInfo, info
from mpncov_zoo.cli.options import PROGRAM, add_command, add_json
from mpncov_zoo.description import Metric
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.trunk_stages import TrunkStage

NOTHING = "-"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "info",
        run,
        help="show what is known of a model and of its default weights, or of NAME.TAG",
        example=f"{PROGRAM} info mpncov_resnet101",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a name of `mpncov-zoo list`, an alias, NAME.TAG, or the path of an artifact or a run",
    )
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    facts = info(args.name)
    print(json.dumps(_plain(facts), indent=2) if args.json else "\n".join(_lines(facts)))
    return 0


def _plain(facts: ModelInfo) -> dict[str, Any]:
    values = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    values["input"] = facts.input.model_dump(mode="json")
    values["trunk"] = [stage._asdict() for stage in facts.trunk]
    values["metrics"] = [metric.model_dump(mode="json") for metric in facts.metrics]
    return values


def _lines(facts: ModelInfo) -> Iterable[str]:
    """One line for each field, and one more for every further name or metric."""
    names = [field.name for field in dataclasses.fields(facts)]
    width = max(map(len, names)) + 2
    for name in names:
        first, *others = _shown(getattr(facts, name))
        yield f"{name:{width}}{first}"
        yield from (f"{'':{width}}{other}" for other in others)


def _shown(value: Any) -> list[str]:
    """A field's value as lines."""
    if isinstance(value, TrunkStage):
        return [str(value)]
    if isinstance(value, tuple):
        return [line for item in value for line in _shown(item)] or [NOTHING]
    if isinstance(value, InputSpecification):
        return [_input(value)]
    if isinstance(value, Metric):
        return [_metric(value)]
    return [NOTHING if value is None else f"{value:,}" if isinstance(value, int) else str(value)]


def _input(spec: InputSpecification) -> str:
    height, width = spec.size
    return (
        f"{height}x{width} {spec.channel_order}, {spec.resize} {spec.interpolation} resize, "
        f"centre crop of {spec.crop_fraction:g}, mean {_numbers(spec.mean)}, std {_numbers(spec.std)}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _metric(metric: Metric) -> str:
    origin = f"{metric.origin}: {metric.command}" if metric.command else metric.origin
    return f"{metric.name} {metric.value:g} %, {metric.dataset} {metric.protocol} ({origin})"
