"""The command `mpncov-zoo train`, which trains a network by a recipe."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mpncov_zoo.cli.options import PROGRAM, add_command, add_json, as_argument
from mpncov_zoo.errors import InputError
from mpncov_zoo.quiet import import_tensorflow
from mpncov_zoo.training.recipes import Recipe, list_recipes, load_recipe


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "train",
        run,
        help="train a model by a recipe; prints the directory of the finished artifact",
        details="The run's directory also gets the resolved recipe, a log, its curves, events for TensorBoard,\n"
        "metrics and, after every epoch, what --resume needs: a run that was killed goes on to the same numbers.\n"
        "The artifact, RUN/NAME.TAG, is a MODEL of the other commands; the last line on standard error shows it.",
        example=f"{PROGRAM} train fashion_mnist --data /usr/share/datasets/fashion-mnist --output runs/fashion \\\n"
        "    --set epochs=10 optimizer.learning_rate=0.1",
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a name of --list, or the path of a TOML file")
    parser.add_argument("--data", metavar="DIR", help="the data set's files, as they are published")
    parser.add_argument("--output", metavar="RUN", help="directory of the run, new or empty")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change the recipe's values"
    )
    parser.add_argument("--hub", metavar="HUB", help="the only place to look for the recipe's pretrained weights")
    parser.add_argument(
        "--strategy",
        default="single",
        metavar="NAME",
        help="single device (default), mirrored: all of this machine, or multi_worker: those of all in TF_CONFIG",
    )
    parser.add_argument("--resume", action="store_true", help="go on after the last complete epoch of RUN")
    parser.add_argument("--list", action="store_true", help="list the recipes, their models and data sets")
    add_json(parser, "with --list: an array of objects with name, model and dataset")
    parser.set_defaults(verbose=True)


def run(args: argparse.Namespace) -> int:
    """Train, and print the directory of the artifact."""
    if args.list:
        _list(as_json=args.json)
        return 0
    missing = [name for name in ("recipe", "data", "output") if getattr(args, name) is None]
    if missing:
        raise InputError(f"train needs RECIPE, --data DIR and --output RUN (or --list). Missing: {', '.join(missing)}.")
    recipe = load_recipe(args.recipe, args.set)
    import_tensorflow()
    from mpncov_zoo.training.fit import train

    with redirect_stdout(sys.stderr):  # Keras writes its progress to standard output
        verbose = 1 if sys.stderr.isatty() else 2  # a bar, or a line an epoch
        artifact = train(
            recipe,
            args.data,
            args.output,
            hub=args.hub,
            strategy=args.strategy,
            resume=args.resume,
            verbose=verbose,
        )
    print(artifact, flush=True)
    for command in next_commands(artifact, recipe, args.data):
        print(command, file=sys.stderr)
    return 0


def next_commands(artifact: Path, recipe: Recipe, data: str) -> Iterator[str]:
    """What one types after a run, the most usual last: the network is measured, and used."""
    name = as_argument(artifact)
    if recipe.split and recipe.split.test:
        yield f"{PROGRAM} evaluate {name} --data {shlex.quote(data)} --split test"
    yield f"{PROGRAM} predict {name} photo.jpg"


def _list(*, as_json: bool) -> None:
    rows = []
    for name in list_recipes():
        recipe = load_recipe(name)
        rows.append({"name": name, "model": recipe.model, "dataset": recipe.dataset})
    lines = (f"{row['name']:<26} {row['model']:<31} {row['dataset']}" for row in rows)
    print(json.dumps(rows) if as_json else "\n".join(lines))
