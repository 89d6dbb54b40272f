"""Checkpoint files as others read them, written without their library."""
