"""The public names, and what importing them costs."""

import subprocess
import sys

import mpncov_zoo

ERRORS = {
    "ZooError": None,
    "UnknownModel": "ZooError",
    "NoPretrainedWeights": "ZooError",
    "ManifestError": "ZooError",
    "FetchError": "ZooError",
    "OfflineError": "FetchError",
    "IntegrityError": "ZooError",
    "ConversionError": "ZooError",
    "ParityError": "ZooError",
    "InputError": "ZooError",
}
PUBLIC = {"list_models", "info", "load", "feature_extractor", "ImageClassifier", *ERRORS}
HEAVY = {"tensorflow", "keras", "torch"}


def in_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_public_names_are_there() -> None:
    assert set(mpncov_zoo.__all__) >= PUBLIC
    assert {"features", "hub", "training"} <= set(dir(mpncov_zoo))


def test_errors_form_the_tree_that_their_module_draws() -> None:
    from mpncov_zoo import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {kind.__name__: None if kind is errors.ZooError else kind.__base__.__name__ for kind in classes} == ERRORS
    assert issubclass(errors.InputError, ValueError)
    drawn, path = {}, {}
    for line in (errors.__doc__ or "").splitlines()[2:]:
        name = line.lstrip("├└│─ ").split()[0]
        path[depth := line.index(name) // 4] = name
        drawn[name] = path.get(depth - 1)
    assert drawn == ERRORS


def test_listing_and_information_do_not_import_tensorflow() -> None:
    code = """
import mpncov_zoo, sys
print(*sys.modules)
mpncov_zoo.list_models("mpncov_*"), mpncov_zoo.list_models(pretrained=True), mpncov_zoo.info("mpncov_resnet101")
mpncov_zoo.UnknownModel, mpncov_zoo.ModelInfo
print(*sys.modules)
"""
    for modules in in_new_process(code).splitlines():
        assert not HEAVY & set(modules.split())


def test_import_takes_less_than_150_ms() -> None:
    code = "import time; t = time.perf_counter(); import mpncov_zoo; print(time.perf_counter() - t)"
    assert min(float(in_new_process(code)) for _ in range(5)) < 0.15
