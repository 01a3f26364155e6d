"""`python -m headway` is `headway`."""

from headway.cli import program

if __name__ == "__main__":
    program()
