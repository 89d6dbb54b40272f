"""The benchmark of inference counts what a network multiplies; its figures are measured, not tested."""

from benchmarks import inference


def test_multiplications_are_those_of_the_literature() -> None:
    """EfficientNet-Lite0 has 407 million (its authors' README), ResNet-50 4.1 billion at stride 2 in the last stage."""
    assert 0.38e9 < inference.multiplications("efficientnet_lite0") < 0.41e9
    assert 4.0e9 < inference.multiplications("resnet50") < 4.2e9


def test_a_side_answers_with_seconds_and_memory() -> None:
    answer = inference.worker("optimize, float32", "efficientnet_lite0")
    assert answer({"batch": 1, "warm_ups": 1})["seconds"] > 0
    assert inference.worker(inference.FLOOR, "efficientnet_lite0")({}).keys() == {"multiplications", "rate"}
