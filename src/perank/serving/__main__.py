"""`python -m perank.serving`."""

from __future__ import annotations

from perank.serving.command import main

if __name__ == "__main__":
    main()
