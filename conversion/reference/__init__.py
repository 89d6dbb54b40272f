"""The source networks in PyTorch, which parity holds ours to; torch is needed here and only here.

A network is a peer's own code up to its last features, and behind that the one head that all families share.
"""
