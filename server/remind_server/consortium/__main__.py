"""``python -m remind_server.consortium``: the same as ``remind consortium``."""

import sys

from remind.disk import disk_error, in_words
from remind.errors import UserError
from remind_server.consortium.command import consortium_command

if __name__ == "__main__":
    try:
        consortium_command(prog_name="remind consortium")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if (full := disk_error(error)) is None:
            raise
        print(f"error: {in_words(full)}", file=sys.stderr)
        raise SystemExit(1) from None
