"""Published checkpoints to artifacts: readers, name maps and the parity that they are held to."""
