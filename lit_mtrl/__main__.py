"""``python -m lit_mtrl``."""

from lit_mtrl.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
