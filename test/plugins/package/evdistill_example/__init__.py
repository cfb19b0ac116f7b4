"""One of each part that evdistill takes from other packages (docs/extending.md shows them)."""
