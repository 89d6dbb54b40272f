"""The command `mpncov-zoo publish`, which puts an artifact into a hub."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from typing import Any

from mpncov_zoo.cli.options import PROGRAM, add_command
from mpncov_zoo.conversion_package import require_conversion
from mpncov_zoo.quiet import import_tensorflow

FACTS = {
    "dataset": ("NAME", "the data set that the weights are for"),
    "code_licence": ("TEXT", "of the code that produced the weights, such as Apache-2.0"),
    "weights_licence": ("TEXT", "of the weights, such as CC-BY-4.0"),
    "citation": ("TEXT", "authors, title, year"),
    "notes": ("TEXT", "anything else that users should know"),
}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "publish",
        run,
        help="publish an artifact to the Hugging Face Hub or to a directory; prints its entry for the manifest",
        details="DIR is what `train` or `convert` made. All its files are verified, and it has to pass its self-test;\n"
        "a converted one has to have passed --parity, too, and a trained one to be measured (--data). It is read back\n"
        "before the entry is printed: review that, and add it to weights_manifest.json. A Hugging Face repository\n"
        "holds one set of weights (log in by `hf auth login`); a directory any number, and any web server can serve\n"
        "it. The facts (--dataset ...) are those of the manifest where it knows the weights; else they are required.",
        example=f"{PROGRAM} publish runs/fashion/mpncov_cifar_resnet20.mine --to hf:owner/name --private \\\n"
        "    --data /usr/share/datasets/fashion-mnist --code-licence Apache-2.0 --weights-licence Apache-2.0 \\\n"
        "    --citation 'A. Author: My network, 2026'\n"
        f"{PROGRAM} publish converted/efficientnet_lite0 --to /srv/hub --dry-run",
    )
    parser.add_argument("directory", metavar="DIR", help="the artifact's directory")
    parser.add_argument("--to", required=True, metavar="HUB", help="hf:owner/name, or a directory")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument("--data", metavar="DIR", help="measure the accuracy on this data set's test images")
    parser.add_argument("--dry-run", action="store_true", help="check all, print card and entry, and publish nothing")
    for name, (metavar, help) in FACTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=help)
    parser.set_defaults(verbose=True)


def run(args: argparse.Namespace) -> int:
    """Publish and print the manifest's entry."""
    require_conversion()
    from mpncov_zoo.publishing import publication  # late: it takes a while

    facts = publication.Facts(**{name: getattr(args, name) for name in FACTS})
    prepared = publication.prepare(
        args.directory, args.to, facts=facts, measured=args.data is not None, private=args.private
    )
    import_tensorflow()
    with redirect_stdout(sys.stderr):  # Keras writes its progress to standard output
        examined = publication.examine(prepared, args.data)
        entry = None if args.dry_run else publication.plain(publication.send(examined))
    if entry is None:
        print(examined.card)
        print("Nothing was published; the source below is where it would be.", file=sys.stderr)
        entry = {**publication.plain(examined.entry), "sources": [examined.source()]}
    print(json.dumps(entry, indent=2, ensure_ascii=False))
    return 0
