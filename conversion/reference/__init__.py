"""The source networks in PyTorch, which parity holds ours to; torch is needed here and only here.

Upstream's, torchvision's and EfficientNet-Lite's are written here from the published facts, with the tensor names of
their checkpoints; pytorchcv's are pytorchcv's own.
"""
