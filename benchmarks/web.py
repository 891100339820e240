"""Pages at the size of a large team: 2,000 models, rankings of 500 by 20 estimators.

python -m benchmarks.web [--data-dir DIR] [--repeats 5]

For each page: time until its last byte is there (median), CPU time of the serving process, bytes, and time until a real
browser has painted it; then how long sorting and filtering the table of 500 take there, with the layout that follows.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser
from sqlalchemy import update

from benchmarks.seeding import Size, ident, seeded
from service.core.settings import DatabaseSettings, Settings
from service.rankings.tables import RankingRow
from service.scoring.panel import DEFAULT_PANEL
from tests.helpers.browser import Watched, browser, served

SIZE = Size(models=2_000, datasets=20, models_per_ranking=500)
SERVER_MS, PAGE_BYTES, SORT_MS = 300, 500_000, 100
PAGES = {
    "home": "/",
    "datasets": "/datasets",
    "dataset": f"/datasets/{ident('ds', 3)}",
    "recommendation": f"/datasets/{ident('ds', 3)}/recommendation",
    "new ranking": f"/rankings/new?dataset={ident('ds', 3)}",
    "rankings": "/rankings",
    "ranking of 500 by 20": f"/rankings/{ident('rk', 3)}",
    "ranking of 500 by 5": f"/rankings/{ident('rk', 4)}",
    "ranking of 500, its rows": f"/rankings/{ident('rk', 3)}/rows",
    "ranking of 500, agreement": f"/rankings/{ident('rk', 3)}/agreement",
    "models": "/models",
    "models, sorted and filtered": "/models?name=*net*&sort=params&descending=true",
    "model": f"/models/{ident('mdl', 7)}",
    "estimators": "/estimators",
    "pre-scores": "/prescores",
    "changes": "/changes",
    "settings": "/settings",
}
SORTING = """() => {
  const body = document.querySelector("#ranking tbody");
  const heads = [...document.querySelectorAll("#ranking th button")].slice(0, 6);
  return heads.flatMap((head) => [0, 1].map(() => {
    const began = performance.now();
    head.click();
    body.getBoundingClientRect();
    return performance.now() - began;
  }));
}"""
FILTERING = """() => {
  const field = document.querySelector("#filter"), body = document.querySelector("#ranking tbody");
  return ["r", "re", "res", "resn", "resne", ""].map((words) => {
    field.value = words;
    const began = performance.now();
    field.dispatchEvent(new Event("input", { bubbles: true }));
    body.getBoundingClientRect();
    return performance.now() - began;
  });
}"""
LATER = ("ranking of 500, its rows", "ranking of 500, agreement")  # fetched once the page is painted
WHOLE = f"() => document.querySelectorAll('#ranking tbody tr').length === {SIZE.models_per_ranking}"
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def cpu_seconds(client: httpx.Client) -> float:
    """Of the process that serves, so far: unlike the time until an answer, other work hardly adds to it."""
    return float(re.findall(r"^process_cpu_seconds_total (\S+)", client.get("/metrics").text, re.MULTILINE)[0])


def asked(client: httpx.Client, path: str, repeats: int) -> tuple[float, float, int]:
    times, size, used = [], 0, 0.0
    for place in range(repeats + 1):
        if place == 1:
            used = cpu_seconds(client)
        began = time.perf_counter()
        answer = client.get(path)
        times.append(time.perf_counter() - began)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:200])
        size = len(answer.content)
    return statistics.median(times[1:]), (cpu_seconds(client) - used) / repeats, size


def painted(opened: Browser, url: str, path: str) -> float | None:
    context = opened.new_context()
    watched = Watched.of(context, url)
    page = watched.go(path)
    page.wait_for_timeout(300)
    found: float | None = page.evaluate(PAINTED)
    assert watched.wrong == [], watched.wrong
    context.close()
    return found


def measure(url: str, repeats: int) -> bool:
    kept = True
    with httpx.Client(base_url=url, timeout=60) as client, browser() as opened:
        print(f"{'page':<28} {'server, ms':>10} {'CPU, ms':>8} {'kB':>6} {'painted, ms':>11}")
        for name, path in PAGES.items():
            seconds, cpu, size = asked(client, path, repeats)
            paint = None if name in LATER else painted(opened, url, path)
            within = name in LATER or (1000 * seconds < SERVER_MS and size < PAGE_BYTES)
            kept &= within
            said = f"{paint:11.0f}" if paint is not None else f"{'':11}"
            print(
                f"{name:<28} {1000 * seconds:10.0f} {1000 * cpu:8.0f} {size / 1000:6.0f} {said}"
                f"{'' if within else '  above a bound'}"
            )
        context = opened.new_context(viewport={"width": 1280, "height": 900})
        for of in ("ranking of 500 by 20", "ranking of 500 by 5"):
            page = Watched.of(context, url).go(PAGES[of])
            page.wait_for_function(WHOLE)
            for name, script in (("sorting", SORTING), ("filtering", FILTERING)):
                times: list[float] = page.evaluate(script)
                within = statistics.median(times) < SORT_MS
                kept &= within
                print(
                    f"{of}, {name}: {statistics.median(times):.0f} ms (median of {len(times)}), "
                    f"{max(times):.0f} at most{'' if within else '  above the bound'}"
                )
        context.close()
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="kept; a temporary one if unset")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data_dir or Path(temporary)
        database = seeded(folder, "sqlite", SIZE)
        with database.write() as session:  # one has the usual panel alone
            usual = update(RankingRow).where(RankingRow.id == ident("rk", 4)).values(estimators=list(DEFAULT_PANEL))
            session.execute(usual)
        address = str(database.engine.url)
        database.dispose()
        settings = Settings(data_dir=folder / "data", log_level="error", database=DatabaseSettings(url=address))
        with served(settings, folder / "serve.log") as url:
            print(f"bounds: {SERVER_MS} ms server time, {PAGE_BYTES // 1000} kB, sorting {SORT_MS} ms")
            return 0 if measure(url, options.repeats) else 1


if __name__ == "__main__":
    sys.exit(main())
