"""``python -m remind_client`` is ``remind-site``."""

from remind_client.command import main

if __name__ == "__main__":
    main()
