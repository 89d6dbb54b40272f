"""The command `mpncov-zoo cache`, which lists, fetches and removes what is kept on this machine."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mpncov_zoo.catalog import split_name
from mpncov_zoo.cli.options import PROGRAM, add_command, add_json
from mpncov_zoo.find import find
from mpncov_zoo.hub.cache import CACHE_VARIABLE, Cache, cache_root
from mpncov_zoo.hub.directories import add_artifact
from mpncov_zoo.hub.housekeeping import Removal, damaged, held, remove, total, unneeded
from mpncov_zoo.manifest import load_manifest

MEGABYTE = 1e6


def add(commands: Any) -> None:
    """Declare the command and its actions."""
    parser = add_command(
        commands,
        "cache",
        run_list,
        help="show, fill, mend, empty or carry away what was fetched and converted",
        details=f"The cache is where `cache where` says; {CACHE_VARIABLE} names another place.",
        example=f"{PROGRAM} cache prefetch mpncov_resnet50\n"
        f"{PROGRAM} cache pack mpncov_resnet50 --output /mnt/disk/hub\n"
        f"MPNCOV_ZOO_HUB=/mnt/disk/hub {PROGRAM} predict mpncov_resnet50 photo.jpg",
    )
    below = parser.add_subparsers(metavar="ACTION", required=True)
    _add_list(below)
    _add_where(below)
    _add_prefetch(below)
    _add_gc(below)
    _add_repair(below)
    _add_pack(below)


def _add_list(below: Any) -> None:
    parser = add_command(below, "list", run_list, help="list what it holds", example=f"{PROGRAM} cache list")
    add_json(parser, "a JSON object a line")


def _add_where(below: Any) -> None:
    example = f"{PROGRAM} cache where\n{PROGRAM} cache where mpncov_resnet50"
    parser = add_command(
        below, "where", run_where, help="print its directory, or that of a set of weights in it", example=example
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="a name of `mpncov-zoo list`, or NAME.TAG")


def _add_prefetch(below: Any) -> None:
    parser = add_command(
        below,
        "prefetch",
        run_prefetch,
        help="fetch weights, verify them and convert them where needed, so that later loads need no network",
        example=f"{PROGRAM} cache prefetch mpncov_resnet50 mpncov_resnet101",
    )
    _add_names(parser)


def _add_gc(below: Any) -> None:
    parser = add_command(
        below,
        "gc",
        run_gc,
        help="remove what broke off, and what this version of mpncov-zoo does not need",
        example=f"{PROGRAM} cache gc --dry-run",
    )
    parser.add_argument("--all", action="store_true", help="remove all that can be fetched or converted again, too")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _add_repair(below: Any) -> None:
    add_command(
        below,
        "repair",
        run_repair,
        help="read every file again and remove what is damaged; the next load brings it anew",
        example=f"{PROGRAM} cache repair",
    )


def _add_pack(below: Any) -> None:
    parser = add_command(
        below,
        "pack",
        run_pack,
        help="write weights into a directory that is a hub: for a static file server, a share or a disk",
        example=f"{PROGRAM} cache pack mpncov_resnet50 --output /srv/www/hub\n"
        f"MPNCOV_ZOO_HUB=https://host/hub {PROGRAM} predict mpncov_resnet50 photo.jpg",
    )
    _add_names(parser)
    parser.add_argument("--output", metavar="DIR", required=True, help="the hub, new or there already")


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="a name of `mpncov-zoo list`, or NAME.TAG")
    parser.add_argument("--hub", metavar="HUB", help="take them from this directory, URL or hf:owner/name@commit")
    parser.set_defaults(verbose=True)


def run_list(args: argparse.Namespace) -> int:
    """Print one line for each directory."""
    cache = _cache()
    found = held(cache)
    if not found:
        print(f"{cache.root} is empty", file=sys.stderr)
    for item in found:
        if args.json:
            print(json.dumps({"name": item.name, "directory": str(item.directory), "bytes": item.size}))
        else:
            print(f"{item.size / MEGABYTE:>9.1f} MB  {item.name:<40} {item.directory}")
    return 0 if found else 1


def run_where(args: argparse.Namespace) -> int:
    """Print the directory of the cache."""
    if args.name is None:
        print(cache_root())
        return 0
    print(find(args.name, offline=True, convert=False).artifact.directory)
    return 0


def run_prefetch(args: argparse.Namespace) -> int:
    """Print the directory of each."""
    for name in _checked(args.names):
        print(find(name, hub=args.hub).artifact.directory)
    return 0


def run_gc(args: argparse.Namespace) -> int:
    """Print what is removed."""
    cache = _cache()
    removals = unneeded(cache, load_manifest(), everything=args.all)
    return _remove(cache, removals, "would be freed" if args.dry_run else "freed", dry_run=args.dry_run)


def run_repair(_: argparse.Namespace) -> int:
    """Print what is removed."""
    cache = _cache()
    return _remove(cache, list(damaged(cache)), "of damaged files removed")


def run_pack(args: argparse.Namespace) -> int:
    """Print the directory of each in the hub."""
    for name in _checked(args.names):
        found = find(name, hub=args.hub).artifact
        print(add_artifact(found.directory, found.description.name, Path(os.path.expanduser(args.output))))
    return 0


def _cache() -> Cache:
    return Cache(cache_root())


def _checked(names: list[str]) -> list[str]:
    """The names, after all of them were found to be right, so that a wrong one costs no download."""
    for name in names:
        split_name(name, True)
    return names


def _remove(cache: Cache, removals: list[Removal], what: str, *, dry_run: bool = False) -> int:
    freed = total(removals)
    if not dry_run:
        remove(cache, removals)
    for removal in removals:
        print(f"{removal.size / MEGABYTE:>9.1f} MB  {removal.path}  ({removal.reason})")
    print(f"{freed / MEGABYTE:>9.1f} MB {what}")
    return 0
