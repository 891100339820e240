"""What a template takes from its page is what the page's dataclass documents: no less, and no more."""

import re
from dataclasses import fields
from typing import Any

import pytest
from jinja2 import nodes

from service.web import contexts
from service.web.contexts import Frame, Page
from service.web.paths import TEMPLATES
from service.web.rendering import templates

PAGES: dict[str, type[Page]] = {
    "home.html": contexts.HomePage,
    "datasets.html": contexts.DatasetsPage,
    "dataset.html": contexts.DatasetPage,
    "neighbours.html": contexts.NeighboursPage,
    "map.html": contexts.MapPage,
    "new_ranking.html": contexts.NewRankingPage,
    "rankings.html": contexts.RankingsPage,
    "ranking.html": contexts.RankingPage,
    "ranking_rows.html": contexts.RankingRowsPage,
    "agreement.html": contexts.AgreementPage,
    "recommendation.html": contexts.RecommendationPage,
    "recommendation_rows.html": contexts.RecommendationRowsPage,
    "report.html": contexts.ReportPage,
    "models.html": contexts.ModelsPage,
    "model.html": contexts.ModelPage,
    "prescores.html": contexts.PrescoresPage,
    "prescore.html": contexts.PrescorePage,
    "changes.html": contexts.ChangesPage,
    "estimators.html": contexts.EstimatorsPage,
    "settings.html": contexts.SettingsPage,
    "login.html": contexts.LoginPage,
    "problem.html": contexts.ProblemPage,
}
PARTS = {"base.html", "parts.html", "entries.html", "recommended.html", "inspection.html", "report_of_dataset.html"}
GIVEN_BY_THE_INCLUDER = {"i"}
GLOBALS = {"estimators", "plotly_version"}


def parsed(name: str) -> nodes.Template:
    return templates.env.parse((TEMPLATES / name).read_text(encoding="utf-8"))


def used(name: str, of: str) -> set[str]:
    """Attributes that a template and what it includes take of a variable."""
    tree = parsed(name)
    taken = {
        node.attr for node in tree.find_all(nodes.Getattr) if isinstance(node.node, nodes.Name) and node.node.name == of
    }
    for part in tree.find_all((nodes.Include, nodes.Extends)):
        assert isinstance(part, (nodes.Include, nodes.Extends))
        assert isinstance(part.template, nodes.Const)
        taken |= used(part.template.value, of)
    return taken


def documented(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


@pytest.mark.parametrize(("name", "kind"), PAGES.items(), ids=PAGES)
def test_a_page_uses_what_it_is_given_and_nothing_else(name: str, kind: type[Page]) -> None:
    assert used(name, "page") == documented(kind)


def test_the_frame_is_used_whole() -> None:
    every = set[str]().union(*(used(name, "frame") for name in PAGES))
    assert every == documented(Frame)


@pytest.mark.parametrize("name", sorted({*PAGES, *PARTS}))
def test_no_template_takes_anything_undocumented(name: str) -> None:
    from jinja2.meta import find_undeclared_variables

    tree = parsed(name)
    own = {node.target for node in tree.find_all(nodes.Import)}
    own |= {node.name for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    assert find_undeclared_variables(tree) - own <= {"page", "frame"} | GLOBALS | GIVEN_BY_THE_INCLUDER


def test_every_template_and_every_page_is_here() -> None:
    assert {path.name for path in TEMPLATES.glob("*.html")} == {*PAGES, *PARTS}
    kinds = {kind for kind in vars(contexts).values() if isinstance(kind, type) and issubclass(kind, Page)}
    assert set(PAGES.values()) == kinds - {Page}


def test_no_template_holds_what_the_policy_forbids() -> None:
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""\s(style|on[a-z]+)=["']""", text), path.name
        assert path.name == "report.html" or "<style" not in text  # a file of its own, which the policy does not reach
        assert all("src=" in tag or "application/json" in tag for tag in re.findall("<script[^>]*>", text)), path.name
