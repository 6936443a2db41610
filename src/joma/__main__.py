"""``python -m joma`` is the ``joma`` command."""

from joma.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
