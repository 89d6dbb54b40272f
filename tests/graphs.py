"""Graphs without Grappler, TensorFlow's optimiser of graphs, which takes a third of the time of many tests.

The processes that tests start as users would have it: the command line, notebooks, several workers.
"""


def as_they_are() -> None:
    """Switch it off in this process."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
