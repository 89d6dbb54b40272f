"""Writes checkpoint files that other libraries read, without these libraries."""
