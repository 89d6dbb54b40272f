"""The convolutional trunks. Each module holds one function: `(inputs, *, options) -> endpoints`.

`endpoints` maps the name of every stage to its tensor, (batch, height, width, channels), in order; the last is the
trunk's output. `mpncov_zoo.registry.BACKBONES` says which function and options a name stands for.
"""
