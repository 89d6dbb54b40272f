"""Checkpoint files of others, read without the library that wrote them."""
