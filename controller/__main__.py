"""`python -m controller` is `adapterrelease`."""

from controller.cli.main import main

if __name__ == "__main__":
    main()
