"""The command `mpncov-zoo demo`, which shows in a browser what networks see in an image."""

import argparse
import sys
from typing import Any

from mpncov_zoo.cli.options import PROGRAM, add_command
from mpncov_zoo.demo.neighbours import match, read_features
from mpncov_zoo.demo.networks import bundled_names, check_names, load_network
from mpncov_zoo.demo.server import HOST, free_port, require_gradio, serve
from mpncov_zoo.demo.uploads import LIMITS
from mpncov_zoo.errors import InputError
from mpncov_zoo.quiet import import_tensorflow

PORT = 7860


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "demo",
        run,
        help="show in a browser what networks see in an image",
        details="The page shows the prediction, the pixels that the network gets, and the covariance of its features:\n"
        "its spectrum before and after the square root, and the channels that vary together. Two networks stand\n"
        f"side by side. It is for this machine alone, {HOST}, and asks no other one: what is not here is not\n"
        f"fetched; `{PROGRAM} cache prefetch MODEL` does that beforehand. It ends by Ctrl-C.\n\n"
        f"{LIMITS.replace('. ', '.' + chr(10), 1)}",
        example=f"{PROGRAM} demo\n"
        f"{PROGRAM} features mpncov_cifar_resnet20 photos/ --output features.npz\n"
        f"{PROGRAM} demo --models mpncov_cifar_resnet20 efficientnet_lite0 --neighbours features.npz",
    )
    parser.add_argument("--port", type=int, default=PORT, metavar="P", help=f"default {PORT}; 0 takes any that is free")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="names of `mpncov-zoo list`, NAME.TAG, or paths of artifacts or runs; by default what is bundled",
    )
    parser.add_argument(
        "--neighbours", metavar="PATH", help="what `mpncov-zoo features` wrote: show its images that are nearest"
    )


def run(args: argparse.Namespace) -> int:
    """Print the address of the page, and serve it until the interruption."""
    names = args.models or bundled_names()
    check_names(names)
    port = free_port(args.port)
    require_gradio()
    neighbours = read_features(args.neighbours) if args.neighbours else None
    import_tensorflow()
    networks = []
    for name in names:
        print(f"{PROGRAM}: loading {name}", file=sys.stderr)
        networks.append(load_network(name))
        if networks[-1].name in [network.name for network in networks[:-1]]:
            raise InputError(f"--models names {networks[-1].name} twice, and the page tells networks apart by name.")
    matched = match(neighbours, networks) if neighbours else set()
    serve(networks, neighbours, matched, port)
    return 0
