"""``python -m retrieval``: the command line."""

from retrieval.cli import main

if __name__ == "__main__":
    main()
