"""What people do with the pages, in a real browser: nothing complains, and nothing asks another host."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from service.client import Client
from service.models.schemas import ModelCreate
from tests.helpers.browser import CHROMIUM, Watched, browser, demo_models, served
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import settings_for
from tests.helpers.zoo import TinyZoo

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}: make test-browser installs one"
)
SECONDS = 60_000
PAGES = (
    "/", "/datasets", "/rankings", "/rankings/new", "/models", "/estimators", "/prescores", "/changes", "/settings",
    "/login", "/nowhere",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    url: str
    browser: Browser
    archive: Path
    many: Path
    models: list[str]
    addresses: dict[str, str]  # filled as the tests go: one builds on what another has made

    def watched(self, **options: object) -> Watched:
        context = self.browser.new_context(**options)  # type: ignore[arg-type]
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.url)
        return Watched.of(context, self.url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    archive, many = folder / "trees.zip", folder / "forest.zip"
    archive.write_bytes(zipped({**class_folders(each=12), "ash/broken.png": b"no image"}))
    many.write_bytes(zipped(class_folders(each=250, seed=1)))
    requests = [*demo_models(), *(ModelCreate.model_validate(model.request()) for model in tiny_zoo.good)]
    wrong = ModelCreate.model_validate(tiny_zoo.wrong.request())
    with served(settings_for(folder / "data", None), folder / "log") as url:
        with Client(url) as client:
            for request in [*requests, wrong]:
                client.add_model(request)
            forest = client.upload_dataset(many)
            for request in [*requests, wrong]:
                client.wait_for_model(request.name, timeout_seconds=60)
            client.wait_for_dataset(forest.id, timeout_seconds=60)
        with browser() as found:
            yield Site(url, found, archive, many, [r.name for r in requests], {"forest": f"/datasets/{forest.id}"})


@pytest.fixture
def seen(site: Site) -> Iterator[Watched]:
    watched = site.watched()
    yield watched
    assert watched.wrong == []
    watched.page.context.close()


def first_cells(page: Page, column: int) -> list[str]:
    return page.locator("#ranking tbody tr:visible").evaluate_all(
        f"rows => rows.map(row => row.cells[{column}].dataset.v ?? row.cells[{column}].textContent.trim())"
    )


def test_a_zip_is_uploaded_ranked_and_looked_at(site: Site, seen: Watched, tmp_path: Path) -> None:
    page = seen.go("/")
    page.get_by_label("A zip or tar").set_input_files(site.archive)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url("**/datasets/ds_*")
    expect(page.locator("#state")).to_contain_text("sealed", timeout=SECONDS)
    expect(page.get_by_role("heading", name="What the checks found")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("Unreadable, left out: 1")).to_be_visible()
    assert page.locator(".thumbs img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 40
    site.addresses["dataset"] = page.url.removeprefix(site.url)

    page.get_by_role("link", name="Rank models on it", exact=True).click()
    expect(page.locator("#count")).to_contain_text(f"{len(site.models) + 1} models")
    page.get_by_label("Name", exact=True).fill("*tiny_resnet*")
    expect(page.locator("#count")).to_contain_text("2 models")
    assert "name=" in page.url
    page.get_by_label("Name", exact=True).fill("")
    expect(page.locator("#count")).to_contain_text(f"{len(site.models) + 1} models")
    page.get_by_label("Budget").fill("40img")
    expect(page.locator("#count")).to_contain_text("with a budget of 40 images about 2 will be raced")
    page.get_by_label("Budget").fill("soon")
    expect(page.locator("#count .problem")).to_contain_text("A budget is written 90s")
    page.get_by_label("Budget").fill("")
    expect(page.locator("#count .problem")).to_have_count(0)
    page.get_by_role("button", name="Rank", exact=True).click()
    page.wait_for_url("**/rankings/rk_*")
    site.addresses["ranking"] = page.url.removeprefix(site.url)
    expect(page.locator("#progress .state")).to_have_text("done", timeout=SECONDS)
    expect(page.locator(".words")).to_contain_text("Fine-tune")
    expect(page.locator(".plot svg.main-svg").first).to_be_visible(timeout=20_000)

    names = first_cells(page, 1)
    assert sorted(names) == sorted([*site.models, "tiny_wrong.a"])
    failed = page.locator("#ranking tbody tr", has_text="tiny_wrong.a")
    expect(failed.locator(".problem")).not_to_be_empty()
    page.get_by_role("button", name="Model", exact=True).click()
    assert first_cells(page, 1) == sorted(names, key=str.lower)
    page.get_by_role("button", name="kNN probe").click()
    knn = page.locator("#ranking th[data-key=knn]").evaluate("head => head.cellIndex")
    values = [float(value.split()[0]) for value in first_cells(page, knn) if value]
    assert values == sorted(values, reverse=True)
    assert len(values) == len(site.models)
    assert first_cells(page, knn)[-1] == ""
    page.get_by_label("Filter the table").fill("tiny resnet")
    assert sorted(first_cells(page, 1)) == ["tiny_resnet.a", "tiny_resnet.b"]
    expect(page.locator("[data-count]")).to_have_text(f"2 of {len(names)} shown")
    assert "sort=-knn" in page.url
    assert "q=tiny" in page.url
    page.reload()
    assert sorted(first_cells(page, 1)) == ["tiny_resnet.a", "tiny_resnet.b"]
    page.get_by_text("Columns").click()
    page.get_by_label("Parameters").uncheck()
    expect(page.get_by_role("button", name="Parameters")).to_be_hidden()

    page.get_by_role("button", name="Copy").click()
    assert "timm.create_model" in page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.get_by_role("link", name="Report").click()
    report = tmp_path / "report.html"
    download.value.save_as(report)
    text = report.read_text()
    assert all(name in text for name in names)
    assert not re.search(r"<script|(?:src|href)=|url\(", text)
    lone = site.watched(offline=True)
    lone.page.goto(report.as_uri())
    expect(lone.page.get_by_role("heading", name="Models for trees")).to_be_visible()
    assert lone.page.locator("main").evaluate("main => getComputedStyle(main).maxWidth") != "none"
    lone.page.context.close()
    with page.expect_download() as table:
        page.get_by_role("link", name="CSV").click()
    assert table.value.suggested_filename.endswith(".csv")
    with page.expect_download() as download:
        page.get_by_role("link", name="Parquet").click()
    download.value.save_as(tmp_path / "ranking.parquet")
    assert sorted(pq.read_table(tmp_path / "ranking.parquet")["model"].to_pylist()) == sorted(names)

    page.get_by_role("link", name="What fine-tuning will give").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What to fine-tune on trees")
    expect(page.locator("#recommended tbody tr")).to_have_count(len(site.models) + 1)
    site.addresses["agreement"] = f"{site.addresses['ranking']}/agreement"
    site.addresses["recommendation"] = page.url.removeprefix(site.url)
    page.get_by_label("Parameters up to, M").fill("0.001")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("No model is left within these constraints")).to_be_visible()
    assert "max_params=0.001" in page.url
    page.get_by_role("link", name="trees", exact=True).click()
    page.goto(site.url + site.addresses["ranking"])

    page.get_by_role("link", name="tiny_resnet.a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("tiny_resnet.a")
    expect(page.locator("#record + div")).to_contain_text("trees")
    page.get_by_role("link", name="map", exact=True).click()
    expect(page.locator(".plot svg.main-svg").first).to_be_visible(timeout=20_000)
    assert page.locator(".plot path.point").count() > 20
    site.addresses["map"] = page.url.removeprefix(site.url)
    page.go_back()
    site.addresses["model"] = page.url.removeprefix(site.url)


def test_an_outcome_is_recorded_and_labels_are_inspected(site: Site, seen: Watched) -> None:
    page = seen.go(site.addresses["dataset"])
    page.get_by_label("Model", exact=True).fill("tiny_resnet.a")
    page.get_by_label("Accuracy, as a share").fill("0.875")
    page.get_by_label("Test images").fill("400")
    page.get_by_role("button", name="Record").click()
    row = page.get_by_role("region", name="Outcomes").locator("tbody tr")
    expect(row).to_contain_text("87.5 %")
    expect(row).to_contain_text("84.5 to 90.0 %")
    page.get_by_label("Seen by the model").select_option("tiny_resnet.a")
    page.get_by_role("button", name="Inspect").click()
    expect(page.get_by_text("labels that neighbours contradict")).to_be_visible(timeout=SECONDS)
    page.locator(".thumbs a").first.click()
    page.get_by_label("Under the model").select_option("tiny_resnet.a")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("region", name="Nearest under tiny_resnet.a").locator("tbody tr")).to_have_count(8)
    site.addresses["neighbours"] = page.url.removeprefix(site.url)


def test_a_running_ranking_is_cancelled(site: Site, seen: Watched) -> None:
    page = seen.go(f"/rankings/new?dataset={site.addresses['forest'].rpartition('/')[2]}")
    page.get_by_role("button", name="Rank", exact=True).click()
    page.wait_for_url("**/rankings/rk_*")
    address = page.url
    expect(page.locator("#progress .state")).to_have_text("running", timeout=SECONDS)
    page.get_by_role("button", name="Cancel and remove").click()
    page.wait_for_url("**/datasets/ds_*")
    gone = page.context.request.get(address, headers={"Accept": "text/html"})
    assert gone.status == 404
    assert "It may have been removed" in gone.text()


def test_a_cancelled_ranking_keeps_what_was_scored(site: Site, seen: Watched) -> None:
    page = seen.go(f"/rankings/new?dataset={site.addresses['forest'].rpartition('/')[2]}")
    page.get_by_role("button", name="Rank", exact=True).click()
    page.wait_for_url("**/rankings/rk_*")
    page.get_by_role("button", name="Cancel, keep what is scored").click()
    expect(page.locator("#progress .state")).to_have_text("cancelled")
    assert len(first_cells(page, 1)) == len(site.models) + 1
    page.get_by_text("Remove", exact=True).click()
    page.get_by_role("button", name="Remove this ranking").click()
    page.wait_for_url("**/datasets/ds_*")


def test_the_keyboard_alone_will_do(site: Site, seen: Watched) -> None:
    page = seen.go("/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    def tab_to(name: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            said = page.evaluate("document.activeElement.innerText || document.activeElement.value || ''")
            if re.fullmatch(name, said.strip()):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", name
                return
        raise AssertionError(f"no Tab leads to {name}")

    tab_to("Choose models")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rankings/new?**")
    tab_to("Rank")
    page.goto(site.url + site.addresses["ranking"])
    tab_to("Model")
    page.keyboard.press("Enter")
    expect(page.locator("#ranking th[aria-sort=ascending]")).to_have_text("Model")
    tab_to(r"tiny_\w+\.\w")
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/**")


FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
NOT_WALKED = """(wanted) => [...document.querySelectorAll(wanted)]
  .filter((it) => it.checkVisibility({ visibilityProperty: true }) && !it.disabled && !it.dataset.walked)
  .map((it) => it.outerHTML.slice(0, 120))"""
WALK = """() => {
  const at = document.activeElement;
  at.dataset.walked = 1;
  return at === document.body || getComputedStyle(at).outlineStyle !== "none" ? "" : at.outerHTML.slice(0, 120);
}"""


def test_every_page_is_walked_by_keyboard_alone(site: Site, seen: Watched) -> None:
    page, unseen, unreached = seen.page, {}, {}
    for path in (*PAGES[:-1], *site.addresses.values()):
        page.goto(site.url + path)
        for _ in range(len(page.evaluate(NOT_WALKED, FOCUSABLE)) + 2):
            page.keyboard.press("Tab")
            if without_outline := page.evaluate(WALK):
                unseen[path] = without_outline
        if left := page.evaluate(NOT_WALKED, FOCUSABLE):
            unreached[path] = left
    assert unseen == {}
    assert unreached == {}


def test_pairs_are_scored_ahead_by_keyboard_and_what_changed_is_told(site: Site, seen: Watched) -> None:
    page = seen.go("/prescores")
    page.get_by_label("Models", exact=True).press_sequentially("tiny_resnet*")
    page.keyboard.press("Tab")
    page.keyboard.type("trees")
    page.keyboard.press("Enter")
    page.wait_for_url("**/prescores/ps_*")
    site.addresses["prescore"] = page.url.removeprefix(site.url)
    expect(page.get_by_role("heading", level=1)).to_contain_text("named tiny_resnet* on datasets named trees")
    expect(page.locator("#progress .state")).to_have_text("done", timeout=SECONDS)
    expect(page.locator("#rows")).to_contain_text("There was nothing to score")  # the ranking has scored them
    page.goto(f"{site.url}/prescores")
    page.get_by_label("Models", exact=True).fill("tiny_resnet*")
    page.get_by_label("Datasets", exact=True).fill("trees")
    page.get_by_label("Only what has no score yet").uncheck()
    page.get_by_role("button", name="Pre-score").click()
    expect(page.locator("#progress .state")).to_have_text("done", timeout=SECONDS)
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    expect(page.locator("#rows")).to_contain_text("it was scored before")
    page.get_by_role("link", name="Failed", exact=True).click()
    expect(page.locator("#rows")).to_contain_text("None is failed.")
    assert "state=failed" in page.url
    page.get_by_role("link", name="Changes", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What changed")


def test_without_javascript_forms_do_their_work(site: Site) -> None:
    watched = site.watched(java_script_enabled=False)
    page = watched.go(f"/rankings/new?dataset={site.addresses['dataset'].rpartition('/')[2]}&name=tiny_resnet.a")
    expect(page.locator("#count")).to_contain_text("1 model")
    page.get_by_label("Budget").fill("2h")
    page.get_by_role("button", name="Count again").click()
    expect(page.locator("#count")).to_contain_text("with a 2-hour budget all of them will be raced")
    page.get_by_label("Budget").fill("")
    page.get_by_role("button", name="Rank", exact=True).click()
    page.wait_for_url("**/rankings/rk_*")
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert "/rankings/rk_" in page.url
    page.context.close()


def test_a_form_of_another_page_is_refused(site: Site, seen: Watched) -> None:
    page = seen.go(site.addresses["dataset"])
    refused = page.context.request.post(
        f"{site.url}{site.addresses['dataset']}/outcomes",
        form={"csrf": "x" * 43, "model": "m", "accuracy": "0.5"},
        headers={"Accept": "text/html"},
    )
    assert refused.status == 403
    assert "open the page again" in refused.text()


def test_weights_of_ones_own_are_added(site: Site, seen: Watched, tiny_zoo: TinyZoo) -> None:
    model = tiny_zoo.good[0]
    page = seen.go("/models")
    own = page.locator("section", has=page.get_by_role("heading", name="Add weights of your own"))
    own.get_by_label("Its name here").fill("own.resnet")
    own.get_by_label("Architecture").fill(model.architecture)
    own.get_by_label("Weights", exact=True).fill(f"file:{model.path}")
    own.get_by_label("Input, px").fill("32")
    own.get_by_label("Mean").fill("0.5, 0.5 0.5")
    own.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("own.resnet")
    expect(page.locator("#state .state")).to_have_text("ready", timeout=SECONDS)
    expect(page.get_by_label("Card as JSON")).to_contain_text('"mean": [')


def test_five_hundred_rows_are_sorted_both_ways(site: Site, seen: Watched) -> None:
    page = seen.go(site.addresses["ranking"])
    first, second = page.evaluate(
        """() => {
          const body = document.querySelector("#ranking tbody"), row = body.rows[0];
          const { cellIndex } = document.querySelector("#ranking th[data-key=knn]");
          while (body.rows.length < 500) {
            const copy = row.cloneNode(true);
            copy.cells[cellIndex].dataset.v = Math.random();
            body.append(copy);
          }
          const button = [...document.querySelectorAll("#ranking th button")].find(b => b.textContent.includes("kNN"));
          const cells = () => Array.from(body.rows, (row) => row.cells[cellIndex].dataset.v);
          const values = () => cells().filter(Boolean).map(Number);
          return [0, 1].map(() => { button.click(); return values(); });
        }"""
    )
    assert len(set(first)) > 400
    assert sorted(first, reverse=True) == first
    assert sorted(second) == second
    assert sorted(first) == second


def test_sorting_five_hundred_rows_is_quick(site: Site, seen: Watched) -> None:
    page = seen.go(site.addresses["ranking"])
    took = page.evaluate(
        """() => {
          const body = document.querySelector("#ranking tbody"), row = body.rows[0];
          const { cellIndex } = document.querySelector("#ranking th[data-key=knn]");
          while (body.rows.length < 500) {
            const copy = row.cloneNode(true);
            copy.cells[cellIndex].dataset.v = Math.random();
            body.append(copy);
          }
          const button = [...document.querySelectorAll("#ranking th button")].find(b => b.textContent.includes("kNN"));
          const times = Array.from({ length: 30 }, () => {
            const began = performance.now();
            button.click();
            body.getBoundingClientRect();
            return performance.now() - began;
          });
          return Math.min(...times);
        }"""
    )
    assert took < 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: Site, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    watched = site.watched(color_scheme=theme)
    page, found = watched.page, {}
    for path in (*PAGES, *site.addresses.values()):
        page.goto(site.url + path)
        if path == site.addresses.get("ranking"):
            page.wait_for_selector(".plot svg.main-svg")
        results = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        bad = [
            (v["id"], n["html"][:200]) for v in results if v["impact"] in {"serious", "critical"} for n in v["nodes"]
        ]
        if bad:
            found[path] = bad
        width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width == 0, f"{path} scrolls sideways"
    watched.page.context.close()
    assert found == {}


def test_pages_are_quick_and_small(site: Site, seen: Watched) -> None:
    for path in (*PAGES[:-1], *site.addresses.values()):
        began = time.monotonic()
        answer = seen.page.context.request.get(site.url + path)
        assert len(answer.body()) < 500_000, path
        assert time.monotonic() - began < 2.0, path
