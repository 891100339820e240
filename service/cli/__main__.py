"""`python -m service.cli`: the `zooscout` command."""

from service.cli.main import run

if __name__ == "__main__":
    run()
