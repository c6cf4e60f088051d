"""``python -m graphcl.cli``."""

from graphcl.cli import main

main()
