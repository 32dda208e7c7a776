"""``python -m lit_mtrl``."""

from lit_mtrl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
