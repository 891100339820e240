"""Seconds from asking about a new dataset to its recommendation, by a service with one warm worker.

python -m benchmarks.instant DATA_DIR WARM DATASET...

WARM and DATASET are sealed datasets that the reference model has not looked at. The first makes the worker load the
model; of the others, the time from POST signature to the answer of GET recommendations is printed.
"""

import argparse
import os
import subprocess
import sys
import time

import httpx

from service.client import Client

PORT = 18_763


def asked(client: Client, dataset: str) -> tuple[float, float, str]:
    start = time.perf_counter()
    found = client.start_signature(dataset)
    while not found.ended:
        time.sleep(0.05)
        found = client.signature(dataset)
    looked = time.perf_counter() - start
    answer = client.recommend(dataset)
    said = f"{found.images} images by {found.model}, {found.seconds} s of them in the worker; {answer.said[-1]}"
    return looked, time.perf_counter() - start, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir")
    parser.add_argument("datasets", nargs="+")
    parser.add_argument(
        "--images", type=int, default=300, help="that the small model looks at; 300 is the setting's default"
    )
    given = parser.parse_args()
    settings = {
        "ZOOSCOUT_DATA_DIR": given.data_dir,
        "ZOOSCOUT_INSTANT__IMAGES": str(given.images),
        "ZOOSCOUT_LOG_LEVEL": "error",
    }
    service = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "serve", "--port", str(PORT)], env=os.environ | settings
    )
    try:
        with Client(f"http://127.0.0.1:{PORT}") as client:
            for _ in range(600):
                try:
                    client.datasets()
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            for number, dataset in enumerate(given.datasets):
                looked, answered, said = asked(client, dataset)
                note = " (the worker was not warm)" if number == 0 else ""
                print(f"{dataset}: signed after {looked:.2f} s, answered after {answered:.2f} s{note}; {said}")
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
