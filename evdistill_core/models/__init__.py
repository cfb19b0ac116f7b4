"""Networks in plain torch, built by name."""
