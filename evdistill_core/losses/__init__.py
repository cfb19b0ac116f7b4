"""Loss functions, each with shapes, formula and source; one weighted sum by name."""
