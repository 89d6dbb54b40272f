"""The script for a GPU: rehearsed on the CPU with all of its sides (`make test-parity`), and its own rules."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accelerator, accelerator_sides
from tests import published
from tests.conftest import SPARE_VARIABLE
from tests.test_backends import QUICK_COMPILATION

OURS = {"jax", "torch"}  # the sides that run this package
MODELS = tuple(accelerator.REHEARSAL.models)
rehearsed = pytest.mark.parity("torch", "pytorchcv")  # the published network is a side, too


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a rehearsal writes."""
    path = tmp_path_factory.mktemp("accelerator") / "rehearsal.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", QUICK_COMPILATION)
        patch.setenv(SPARE_VARIABLE, "sklearn")  # a side chooses its backend itself, JAX among them
        accelerator.main(["--rehearse", "--budget", "600", "--output", str(path)])
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    return json.loads(path.read_text())


@rehearsed
def test_every_side_is_there(content: dict[str, Any]) -> None:
    assert content["sides"].keys() == {*accelerator.SIDES}
    assert not [side for side, facts in content["sides"].items() if "error" in facts]
    assert set(content["seconds"]) == set(accelerator.PARTS) and content["run"]["rehearsal"] is True


@rehearsed
def test_errors_are_those_of_the_precision(content: dict[str, Any]) -> None:
    assert set(content["parity"]) == OURS
    for of_side in content["parity"].values():
        for modes in (of_side[model] for model in MODELS):
            for mode, least, most in (("float32", 1e-8, 2e-5), ("tf32", 1e-8, 2e-5), ("bfloat16", 1e-4, 0.2)):
                errors = modes[mode]["errors"]
                assert list(errors)[-1] == "logits" and len(errors) > 5
                assert least < min(errors.values()) and max(errors.values()) < most, (mode, errors)


@rehearsed
def test_every_call_is_timed(content: dict[str, Any]) -> None:
    cases = [case for part in ("heads", "networks") for case in leaves(content[part], "floor_s")]
    assert len(cases) == 2 * 2 + 2
    for case in cases:
        assert {*OURS, "published"} <= set(case["seconds"]) and case["floor_s"] > 0
        assert case["images_per_s"]["jax"] == accelerator.REHEARSAL.batch / case["seconds"]["jax"]
        assert not case["errors"]


def leaves(tree: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [tree] if key in tree else [leaf for branch in tree.values() for leaf in leaves(branch, key)]


def test_what_no_longer_fits_is_skipped(tmp_path: Path) -> None:
    record = accelerator.Record(tmp_path / "file.json")
    steps = [((name, mode), lambda: {"done": True}) for name in ("a", "b") for mode in ("x", "y")]
    accelerator.take(record, "parity", steps, budget=60)
    accelerator.take(record, "rates", steps, budget=0)
    written = json.loads(record.path.read_text())
    assert written["parity"] == {name: {mode: {"done": True} for mode in ("x", "y")} for name in ("a", "b")}
    skipped = {"skipped": "the 0 s of this part were spent"}
    assert written["rates"] == {name: {mode: skipped for mode in ("x", "y")} for name in ("a", "b")}


def test_a_side_that_ends_is_asked_no_more() -> None:
    asked = []

    def ask(side: str, request: dict[str, Any]) -> dict[str, Any]:
        asked.append(side)
        raise RuntimeError("exit code -11")

    forgiving = accelerator.forgiving(ask, ["jax"])
    for _ in range(2):
        assert forgiving("jax", {}) == {"error": "its process has ended: exit code -11"}
    assert forgiving("torch", {}) == {"error": accelerator.ABSENT} and asked == ["jax"]


def test_ratios_are_of_medians() -> None:
    seconds = iter([9.0, 9.0, 9.0, *(1.0, 3.0, 6.0), *(5.0, 2.0, 4.0), *(2.0, 3.0, 9.0)])
    scale = accelerator.Scale("cpu", {}, batch=10, repeats=3)
    record = accelerator.Record(Path("unused"), {"rates": {"jax": {"tf32": {"multiplications_per_s": 50.0}}}})

    def ask(side: str, request: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": next(seconds)} if request["do"] == "timed" else {"multiplications": 20}

    case = accelerator.compare(ask, scale, record, {"what": "head", "mode": "tf32", "backward": True})
    assert case["seconds"] == {"jax": 2.0, "torch": 3.0, "published": 6.0}
    assert case["times_as_fast_as_published"] == {"jax": 3.0, "torch": 2.0}
    assert (case["images_per_s"]["jax"], case["floor_s"], case["goal"]) == (5.0, 4.0, 3.0)


@pytest.mark.parametrize("model", ["mpncov_resnet50", "mpncov_vgg16_bn"])
def test_seeds_are_those_of_the_golden_files(model: str) -> None:
    net = accelerator_sides.GOLDEN[model][0]
    for name, shape in published.seeded_shapes(net).items():
        if not name.endswith(published.UNUSED) and np.prod(shape) < 1e5:
            np.testing.assert_array_equal(
                accelerator_sides._seeded(model, name, shape), published.seeded_tensor(name, shape)
            )
