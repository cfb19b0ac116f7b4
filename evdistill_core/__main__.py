"""``python -m evdistill_core`` is the ``evdistill`` command."""

from evdistill_core.cli.main import main

if __name__ == "__main__":
    main()
