"""`python -m harness`: the same as the command `harness`."""

from harness.cli import enter

if __name__ == "__main__":
    enter()
