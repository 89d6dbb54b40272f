"""What the commands share: types of arguments, options that several have, the loading of a network, and errors."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.quiet import import_tensorflow
from mpncov_zoo.registry import REPRESENTATIONS

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier

PROGRAM = "mpncov-zoo"


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], *, help: str, details: str = "", example: str
) -> argparse.ArgumentParser:
    """Add a command; `details` may be several lines, `example` is a command line or several."""
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.\n\n{details}".rstrip(),
        epilog=f"example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log to standard error what is done")
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a pretrained network."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a name of `mpncov-zoo list`, NAME.TAG for a set of weights, or the path of an artifact or a run",
    )
    parser.add_argument(
        "--hub", metavar="HUB", help="an artifact directory, a directory of NAME.TAG/ ones, a URL, hf:owner/name@commit"
    )


def add_images(parser: argparse.ArgumentParser, *, nargs: str = "+") -> None:
    """Add the arguments that name images, and how many are computed at once."""
    parser.add_argument(
        "inputs", metavar="INPUT", nargs=nargs, help="image files, folders, '-' for paths on standard input, one a line"
    )
    add_batch_size(parser, 32)


def add_batch_size(parser: argparse.ArgumentParser, default: int) -> None:
    """Add the option of how many images are computed at once."""
    parser.add_argument(
        "--batch-size", type=positive, default=default, metavar="N", help=f"images at once (default {default})"
    )


def add_pool(parser: argparse.ArgumentParser) -> None:
    """Add the option of how a stage's features become a vector."""
    parser.add_argument(
        "--pool",
        choices=[name for name, row in REPRESENTATIONS.items() if not row.fixes_size],
        help="pool the stages on their own channels: iSQRT-COV, average, bilinear or compact bilinear",
    )


def add_json(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the option of output for machines."""
    parser.add_argument("--json", action="store_true", help=help)


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return number


def load_pretrained(args: argparse.Namespace) -> ImageClassifier:
    """Load the network that the arguments of `add_model` name.

    Raises:
        InputError: some of its weights are fresh, so what it computes would be another in each run.
    """
    if not is_path(args.model):
        split_name(args.model, True)  # a misspelt name is refused before TensorFlow's seconds
    import_tensorflow()
    from mpncov_zoo.pretrained import require_pretrained
    from mpncov_zoo.zoo import load

    model = load(args.model, True, hub=args.hub)
    require_pretrained(model, model.stages[-1])
    return model


def as_argument(path: str | os.PathLike[str]) -> str:
    """Write the path of an artifact as MODEL takes it in a shell: with a separator, or it would be a name."""
    text = os.fspath(path)
    return shlex.quote(text if is_path(text) else os.path.join(os.curdir, text))


def print_error(error: object) -> None:
    """Print one error on standard error."""
    print(f"{PROGRAM}: error: {error}", file=sys.stderr)
