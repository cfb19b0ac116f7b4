"""The ``evdistill`` command: one module a subcommand."""
