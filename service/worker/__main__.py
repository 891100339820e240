"""`python -m service.worker`: what `zooscout serve` starts beside the API."""

from service.core.settings import Settings
from service.worker.main import main

if __name__ == "__main__":
    main(Settings())
