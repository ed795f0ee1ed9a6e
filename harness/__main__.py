"""`python -m harness` does what `reactorbench` does."""

from harness.cli import main

main()
