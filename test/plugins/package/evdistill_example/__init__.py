"""One of each part that evdistill takes from other packages (docs/how-to/extending.md)."""
