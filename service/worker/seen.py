"""`python -m service.worker.seen`: ends with 1 where the database has seen no worker of this host lately.

For whoever keeps workers running, as they listen nowhere. A database that is away is no fault of theirs.
"""

import socket
import sys

from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database
from service.core.settings import Settings
from service.operation.repository import seen_on


def main() -> int:
    database = Database.from_settings(Settings())
    try:
        with database.read() as session:
            return 0 if seen_on(session, socket.gethostname()) else 1
    except SQLAlchemyError:
        return 0
    finally:
        database.dispose()


if __name__ == "__main__":
    sys.exit(main())
