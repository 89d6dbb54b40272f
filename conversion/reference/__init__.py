"""Reference networks in PyTorch, written from the published facts; torch is needed here and only here."""
