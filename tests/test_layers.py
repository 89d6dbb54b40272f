"""Imports point one way: a module imports only its own layer and those above it in LAYERS; late imports count too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mpncov_zoo", "conversion")
LAYERS = (  # a module may import its own layer and those above it in this table; "x." is every module below x
    (
        "mpncov_zoo.complete",
        "mpncov_zoo.conversion_package",
        "mpncov_zoo.errors",
        "mpncov_zoo.labels",
        "mpncov_zoo.lazy",
        "mpncov_zoo.progress",
        "mpncov_zoo.quiet",
        "mpncov_zoo.version",
    ),
    ("mpncov_zoo.documents",),
    ("mpncov_zoo.specification",),
    ("mpncov_zoo.plausibility",),
    ("mpncov_zoo.description", "mpncov_zoo.manifest", "mpncov_zoo.registry", "mpncov_zoo.trunk_stages"),
    ("mpncov_zoo.architectures",),
    ("mpncov_zoo.catalog", "mpncov_zoo.hub."),
    (
        *(
            f"mpncov_zoo.representations.{name}"
            for name in ("covariance", "gradients", "matrix_power", "newton_schulz")
        ),
        "mpncov_zoo.backbones.blocks",
    ),
    ("mpncov_zoo.representations", "mpncov_zoo.representations.", "mpncov_zoo.backbones", "mpncov_zoo.backbones."),
    ("mpncov_zoo.preprocessing", "mpncov_zoo.images", "mpncov_zoo.graph_images", "mpncov_zoo.graph_images."),
    ("mpncov_zoo.assembly", "mpncov_zoo.classifier", "mpncov_zoo.compiled", "mpncov_zoo.load_report"),
    ("mpncov_zoo.inference",),
    ("mpncov_zoo.artifact", "mpncov_zoo.artifact."),
    ("mpncov_zoo.pretrained",),
    ("conversion", "conversion."),
    ("mpncov_zoo.first_use",),
    ("mpncov_zoo.find",),
    ("mpncov_zoo.attaching", "mpncov_zoo.handles", "mpncov_zoo.zoo"),
    ("mpncov_zoo.exporting", "mpncov_zoo.exporting."),
    ("mpncov_zoo.features", "mpncov_zoo.features.", "mpncov_zoo.hub", "mpncov_zoo.training", "mpncov_zoo.training."),
    ("mpncov_zoo.publishing", "mpncov_zoo.publishing."),
    ("mpncov_zoo.demo", "mpncov_zoo.demo."),
    ("mpncov_zoo.cli", "mpncov_zoo.cli."),
    ("mpncov_zoo", "mpncov_zoo.__main__", "mpncov_zoo.keras_registration"),
)
IMPORT_BY_NAME = {  # lazy names, tables, Keras, what an extra brings
    "conversion.readers.reading",
    "conversion.reference.source",
    "mpncov_zoo.keras_registration",
    "mpncov_zoo.lazy",
}
LIGHT = (  # without TensorFlow and Keras: what `import`, `list_models`, `info` and verification need
    "mpncov_zoo.architectures",
    "mpncov_zoo.catalog",
    "mpncov_zoo.cli",
    "mpncov_zoo.complete",
    "mpncov_zoo.conversion_package",
    "mpncov_zoo.description",
    "mpncov_zoo.documents",
    "mpncov_zoo.errors",
    "mpncov_zoo.features",
    "mpncov_zoo.features.",
    "mpncov_zoo.find",
    "mpncov_zoo.first_use",
    "mpncov_zoo.handles",
    "mpncov_zoo.hub.",
    "mpncov_zoo.images",
    "mpncov_zoo.keras_registration",
    "mpncov_zoo.labels",
    "mpncov_zoo.lazy",
    "mpncov_zoo.manifest",
    "mpncov_zoo.plausibility",
    "mpncov_zoo.preprocessing",
    "mpncov_zoo.progress",
    "mpncov_zoo.publishing",
    "mpncov_zoo.quiet",
    "mpncov_zoo.registry",
    "mpncov_zoo.specification",
    "mpncov_zoo.training.datasets",
    "mpncov_zoo.training.recipes",
    "mpncov_zoo.trunk_stages",
    "mpncov_zoo.version",
)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports(name: str, *, late: bool = True) -> set[str]:
    """The modules of this repository that a module imports; those that only a type checker sees count too."""
    return imported(MODULES[name].read_text(), late=late) - {name}


def imported(code: str, *, late: bool) -> set[str]:
    return {target for node in walk(ast.parse(code), late) for target in targets(node)}


def walk(tree: ast.AST, into_functions: bool) -> Iterator[ast.AST]:
    yield tree
    for child in ast.iter_child_nodes(tree):
        if into_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from walk(child, into_functions)


def targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute here"
        if node.module is not None and node.module.partition(".")[0] in PACKAGES:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            return [name if name in MODULES else node.module for name in names]
    return []


RANKS = {entry: rank for rank, entries in enumerate(LAYERS) for entry in entries}


def layer(name: str) -> int:
    packages = [name[: end + 1] for end, letter in enumerate(name) if letter == "."]
    known = [entry for entry in (*packages, name) if entry in RANKS]
    assert known, f"{name} has no place in LAYERS: give it one"
    return RANKS[max(known, key=len)]


def forbidden(name: str, code: str) -> list[str]:
    """What a module's code imports though it stands lower in the table."""
    return [target for target in sorted(imported(code, late=True) - {name}) if layer(target) > layer(name)]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    modules = {name: path.read_text() for name, path in MODULES.items() if name.partition(".")[0] == package}
    found = {name: forbidden(name, code) for name, code in modules.items()}
    assert {name: targets for name, targets in found.items() if targets} == {}


def test_there_is_no_circle_among_files() -> None:
    graph = {name: imports(name) for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # raises CycleError


def test_the_rule_sees_a_module_that_breaks_it() -> None:
    for line in ("import conversion", "from conversion import parity", "if 1:\n    import mpncov_zoo.zoo"):
        late = "".join(f"    {part}\n" for part in line.split("\n"))
        for code in (line, f"def function():\n{late}"):
            assert forbidden("mpncov_zoo.registry", code) and not forbidden("mpncov_zoo.cli.convert", code)


def test_modules_are_imported_by_name_in_few_places() -> None:
    users = {name for name, path in MODULES.items() if "import_module" in path.read_text()}
    assert users == IMPORT_BY_NAME


def test_every_entry_of_the_table_exists() -> None:
    assert not [entry for entry in (*RANKS, *LIGHT) if entry.removesuffix(".") not in MODULES]


def test_the_reader_sees_late_and_aliased_imports() -> None:
    """The test of the test: known imports of known modules."""
    assert "mpncov_zoo.graph_images" in imports("mpncov_zoo.preprocessing")
    assert "mpncov_zoo.graph_images" not in imports("mpncov_zoo.preprocessing", late=False)
    assert {"conversion.converter", "mpncov_zoo.hub.upstream"} <= imports("mpncov_zoo.first_use")


def test_light_modules_do_without_tensorflow() -> None:
    light = [name for name in MODULES if name in LIGHT or f"{name.rpartition('.')[0]}." in LIGHT]
    code = f"import sys, {', '.join(light)}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"tensorflow", "keras", "torch"} & set(output.split())


def test_tensorflow_hub_is_imported_by_its_handles_alone() -> None:
    users = {name for name, path in MODULES.items() if "import tensorflow_hub" in path.read_text()}
    assert users == {"mpncov_zoo.handles"}
