"""The command `mpncov-zoo list`, which lists the names of models."""

import argparse
import json
import sys
from typing import Any

from mpncov_zoo.catalog import list_models
from mpncov_zoo.cli.options import PROGRAM, add_command, add_json


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "list",
        run,
        help="list the models, one name a line",
        details="The exit code is 1 where nothing matches.",
        example=f"{PROGRAM} list 'mpncov_*' --pretrained",
    )
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="shell wildcards, in quotes")
    parser.add_argument("--pretrained", action="store_true", help="list the published sets of weights, NAME.TAG")
    add_json(parser, "one JSON array of names")


def run(args: argparse.Namespace) -> int:
    """Print the names."""
    names = list_models(args.pattern, pretrained=args.pretrained)
    if args.json:
        print(json.dumps(names))
    else:
        print("".join(f"{name}\n" for name in names), end="")
    if not names:
        print(
            f"{PROGRAM}: no {'weights match' if args.pretrained else 'model matches'} {args.pattern!r}", file=sys.stderr
        )
    return 0 if names else 1
