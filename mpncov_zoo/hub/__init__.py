"""Where weights come from and how they are trusted: sources, verification."""
