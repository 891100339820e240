"""Every setting says what it is, every metric stands in docs/operations.md, and no page names one that there is not."""

import re
from collections.abc import Iterator
from typing import Any

from service.core.settings import Settings
from tests.helpers.service import ROOT, Service

# Read elsewhere than in the settings: by the command line's client, the demo, compose's file and the tests.
OF_OTHERS = {"ZOOSCOUT_URL", "ZOOSCOUT_KEY", "ZOOSCOUT_DEMO_DIR", "ZOOSCOUT_DB_PASSWORD"}


def settings(group: Any = Settings, prefix: str = "ZOOSCOUT_") -> Iterator[tuple[str, str | None]]:
    for name, field in group.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from settings(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field.description


def pages() -> dict[str, str]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "docker-compose.yml"]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in found}


def test_every_setting_says_what_it_is() -> None:
    """docs/reference/settings.md is made of these texts."""
    found = dict(settings())
    assert len(found) > 50
    assert [name for name, said in found.items() if not said] == []


def test_no_page_names_a_setting_that_there_is_not() -> None:
    known = {name for name, _ in settings()} | OF_OTHERS
    for page, text in pages().items():
        named = set(re.findall(r"\bZOOSCOUT_[A-Z][A-Z0-9_]*[A-Z0-9]\b", text)) - known
        tests_own = {name for name in named if name.startswith(("ZOOSCOUT_TEST", "ZOOSCOUT_SLOW"))}
        assert named - tests_own == set(), page


def test_every_metric_is_described_and_no_other(service: Service) -> None:
    shown = service.client.get("/metrics").text
    told = dict(re.findall(r"(?m)^# HELP (zooscout_\S+) (.+)$", shown))
    families = set(re.findall(r"(?m)^# TYPE (zooscout_\S+) (?!gauge$)(?:counter|histogram)", shown)) | set(told)
    families = {name for name in families if not name.endswith("_created")}
    assert len(families) >= 12
    assert all(told[name] for name in families)
    named = set(re.findall(r"\bzooscout_[a-z_]+", (ROOT / "docs" / "operations.md").read_text()))
    assert families - named == set()
    assert {
        name for name in named if name.removesuffix("_total") not in {f.removesuffix("_total") for f in families}
    } == set()
