"""Imports point one way (DESIGN, "who imports whom"): a ranked table, read with ast; late imports count too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mpncov_zoo", "conversion")
LAYERS = (  # a module may import its own layer and those above it in this table; the longest name decides
    (
        "mpncov_zoo.complete",
        "mpncov_zoo.errors",
        "mpncov_zoo.keras_registration",
        "mpncov_zoo.lazy",
        "mpncov_zoo.progress",
    ),
    ("mpncov_zoo.documents", "mpncov_zoo.manifest", "mpncov_zoo.registry"),
    (
        *(
            f"mpncov_zoo.representations.{name}"
            for name in ("covariance", "gradients", "matrix_power", "newton_schulz")
        ),
        "mpncov_zoo.backbones.blocks",
    ),
    ("mpncov_zoo.representations", "mpncov_zoo.backbones"),
    ("mpncov_zoo.preprocessing", "mpncov_zoo.images", "mpncov_zoo.graph_images"),
    (
        "mpncov_zoo.classifier",
        "mpncov_zoo.selftest",
        "mpncov_zoo.artifact",
        "mpncov_zoo.catalog",
        "mpncov_zoo.first_use",
        "mpncov_zoo.hub",
    ),
    ("mpncov_zoo.zoo",),
    ("mpncov_zoo.features", "mpncov_zoo.training", "conversion", "mpncov_zoo.publishing"),
    ("mpncov_zoo.cli", "mpncov_zoo.__main__"),
)
FACADE = "mpncov_zoo"  # resolves public names lazily; its version is everybody's
REACHES_BACK = {("mpncov_zoo.first_use", "conversion")}  # convert on first use, by a late import
IMPORT_BY_NAME = {  # lazy names, tables, Keras, what an extra brings
    "conversion.readers.reading",
    "conversion.reference.source",
    "mpncov_zoo.classifier",
    "mpncov_zoo.keras_registration",
    "mpncov_zoo.lazy",
}
LIGHT = (  # without TensorFlow and Keras: what `import`, `list_models`, `info` and verification need
    "mpncov_zoo.catalog",
    "mpncov_zoo.cli",
    "mpncov_zoo.complete",
    "mpncov_zoo.documents",
    "mpncov_zoo.errors",
    "mpncov_zoo.features",
    "mpncov_zoo.features.extraction",
    "mpncov_zoo.features.files",
    "mpncov_zoo.features.reading",
    "mpncov_zoo.first_use",
    "mpncov_zoo.hub.cache",
    "mpncov_zoo.hub.checkpoints",
    "mpncov_zoo.hub.conversions",
    "mpncov_zoo.hub.directories",
    "mpncov_zoo.hub.download",
    "mpncov_zoo.hub.graph_operations",
    "mpncov_zoo.hub.graph_tables",
    "mpncov_zoo.hub.housekeeping",
    "mpncov_zoo.hub.local",
    "mpncov_zoo.hub.locations",
    "mpncov_zoo.hub.partial",
    "mpncov_zoo.hub.remote",
    "mpncov_zoo.hub.sources",
    "mpncov_zoo.hub.tensorflow_hub",
    "mpncov_zoo.hub.transport",
    "mpncov_zoo.hub.watch",
    "mpncov_zoo.hub.upload",
    "mpncov_zoo.hub.verification",
    "mpncov_zoo.images",
    "mpncov_zoo.keras_registration",
    "mpncov_zoo.lazy",
    "mpncov_zoo.manifest",
    "mpncov_zoo.preprocessing",
    "mpncov_zoo.progress",
    "mpncov_zoo.publishing",
    "mpncov_zoo.registry",
    "mpncov_zoo.training.protocol",
    "mpncov_zoo.training.recipes",
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


def layer(name: str) -> int:
    ranks = {entry: rank for rank, entries in enumerate(LAYERS) for entry in entries}
    known = [entry for entry in ranks if name == entry or name.startswith(f"{entry}.")]
    assert known, f"{name} has no place in LAYERS: give it one"
    return ranks[max(known, key=len)]


def allowed(source: str, target: str) -> bool:
    return target == FACADE or (source, target.partition(".")[0]) in REACHES_BACK or layer(target) <= layer(source)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_one_way(name: str) -> None:
    if name == FACADE:
        light = {"mpncov_zoo.keras_registration", "mpncov_zoo.lazy"}
        assert imports(name, late=True) - type_checking_only(name) == light
    else:
        assert not [target for target in sorted(imports(name)) if not allowed(name, target)]


def type_checking_only(name: str) -> set[str]:
    tree = ast.parse(MODULES[name].read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {target for block in blocks for node in ast.walk(block) for target in targets(node)}


def test_no_two_modules_import_each_other() -> None:
    graph = {name: {t for t in imports(name) if t != FACADE} for name in MODULES if name != FACADE}
    for source, package in REACHES_BACK:
        graph[source] = {target for target in graph[source] if target.partition(".")[0] != package}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)  # raises CycleError


def reaching_back(name: str, code: str) -> set[str]:
    """What a module's code imports at once out of a package that it may only import late."""
    packages = {package for source, package in REACHES_BACK if source == name}
    return {target for target in imported(code, late=False) if target.partition(".")[0] in packages}


def test_reaching_back_is_late() -> None:
    assert not {target for source, _ in REACHES_BACK for target in reaching_back(source, MODULES[source].read_text())}


def test_the_rule_of_reaching_back_sees_a_module_that_breaks_it() -> None:
    (source, package), *_ = REACHES_BACK
    for line in (f"import {package}.parity", f"from {package} import parity", f"if 1:\n    import {package}"):
        assert {target.partition(".")[0] for target in reaching_back(source, line)} == {package}
        late = "".join(f"    {part}\n" for part in line.split("\n"))
        assert not reaching_back(source, f"def convert():\n{late}")
        assert not reaching_back("mpncov_zoo.registry", line)  # forbidden there, by the other rule


def test_modules_are_imported_by_name_in_few_places() -> None:
    users = {name for name, path in MODULES.items() if "import_module" in path.read_text()}
    assert users == IMPORT_BY_NAME


def test_every_entry_of_the_table_exists() -> None:
    assert not [entry for entries in LAYERS for entry in entries if entry not in MODULES]
    assert not [name for name in LIGHT if name not in MODULES]


def test_the_reader_sees_late_and_aliased_imports() -> None:
    """The test of the test: known imports of known modules."""
    assert "mpncov_zoo.graph_images" in imports("mpncov_zoo.preprocessing")
    assert "mpncov_zoo.graph_images" not in imports("mpncov_zoo.preprocessing", late=False)
    assert {"mpncov_zoo.artifact", "mpncov_zoo.hub.sources"} <= imports("mpncov_zoo.zoo")
    assert not allowed("mpncov_zoo.registry", "mpncov_zoo.zoo") and not allowed("mpncov_zoo.zoo", "mpncov_zoo.cli")


def test_light_modules_do_without_tensorflow() -> None:
    code = f"import sys, {', '.join(LIGHT)}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"tensorflow", "keras", "torch"} & set(output.split())
