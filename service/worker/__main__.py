"""`python -m service.worker`: what `zooscout serve` starts beside the API, with the end of a pipe to hold it by."""

import sys

from service.core.settings import Settings
from service.worker.main import main

if __name__ == "__main__":
    main(Settings(), lifeline=int(sys.argv[1]) if len(sys.argv) > 1 else None)
