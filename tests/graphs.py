"""Graphs without Grappler, TensorFlow's optimiser of graphs, which takes a third of the time of many tests.

The processes that tests start have it, as users do: the command line, notebooks, several workers. Two do not, whose
numbers are compared bit by bit with this process.
"""


def as_they_are() -> None:
    """Switch it off in this process."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
