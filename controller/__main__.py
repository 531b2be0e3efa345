"""`python -m controller` is `adapterrelease`."""

from controller.cli.main import app

if __name__ == "__main__":
    app()
