"""What `training.evaluate` is made of: `answers` writes them, `measures` reads one, `results` sums up, `judge` compares two."""
