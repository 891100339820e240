"""`zooscout datasets inspect` and `zooscout datasets neighbours`."""

from typing import Any

from rich.table import Table

from service.cli.connection import Connection, connected
from service.cli.output import fail, out, print_json
from service.cli.rank import bars
from service.client.results import ENDED, Inspection

LISTED = 10


def inspect_dataset(dataset: str, model: str, /, *, as_json: bool) -> None:
    with connected() as at:
        view = _follow(at, at.client.start_inspection(dataset, model))
        things = "images" if as_json else f"{at.client.dataset(view.dataset_id).modality}s"
    if as_json:
        print_json(view)
    if view.state == "failed":
        fail(f"{(view.error or {}).get('title')}: {(view.error or {}).get('detail')}")
    if not as_json:
        _print(view, dict(view.result or {}), things)


def show_neighbours(dataset: str, image: str, model: str, k: int, /, *, as_json: bool) -> None:
    with connected() as at:
        view = at.client.neighbours(dataset, image, model=model, k=k)
    if as_json:
        print_json(view)
        return
    how = "exact" if view.exact else f"approximate, by {view.index}"
    table = Table(
        title=f"{view.image.path} ({view.image.label}) under {view.model}",
        caption=f"Cosine similarity; {how}; {view.searched} of {view.images} searched.",
        title_justify="left",
        caption_justify="left",
    )
    _columns(table, "similarity", "label", "split", "path")
    for other in view.neighbours:
        table.add_row(f"{other.similarity:.4f}", other.label, other.split, other.path)
    out.print(table)


def _follow(at: Connection, asked: Inspection, /) -> Inspection:
    with bars() as shown:
        bar = shown.add_task("inspecting", total=None)

        def watch(found: Inspection) -> None:
            progress = found.progress
            shown.update(
                bar,
                description=str(progress.get("stage", "inspecting")),
                completed=progress.get("images_embedded", 0),
                total=progress.get("images_to_embed") or None,
            )

        look = lambda: at.client.inspection(asked.id)  # noqa: E731
        return at.settle([asked.dataset_id], look, lambda found: found.state in ENDED, watch)


def _print(view: Inspection, result: dict[str, Any], things: str, /) -> None:
    copies, leaks, labels = result["near_copies"], result["leaks"], result["label_errors"]
    how = "exact" if result["exact"] else f"approximate, by {result['index']}"
    out.print(f"{view.dataset} under {view.model}: {result['images']} {things} compared ({how}).")
    out.print(f"\n{copies['total']} groups of near-copies hold {copies['images']} {things}.")
    if copies["total"]:
        table = Table(caption=copies["rule"], caption_justify="left")
        _columns(table, things, "least similar", "classes", "splits", "first paths")
        for group in copies["shown"][:LISTED]:
            first = ", ".join(image["path"] for image in group["images"][:3])
            row = (str(group["size"]), f"{group['least_similarity']:.4f}", ", ".join(group["classes"]))
            table.add_row(*row, ", ".join(group["splits"]), first)
        out.print(table)
    out.print(f"\n{leaks['total']} {things} of validation or test are in the training split too.")
    if leaks["total"]:
        table = Table(caption="identical: the same bytes; else a near-copy by the rule above", caption_justify="left")
        _columns(table, "similarity", "split", "path", "in train")
        for leak in leaks["shown"][:LISTED]:
            value = "identical" if leak["identical"] else f"{leak['similarity']:.4f}"
            table.add_row(value, leak["image"]["split"], leak["image"]["path"], leak["in_train"]["path"])
        out.print(table)
    out.print(
        f"\n{labels['total']} labels are contradicted by their neighbours; {labels['judged']} {things} judged, "
        f"of which {labels['agreement']:.0%} agree with most neighbours."
    )
    if labels["total"]:
        table = Table(caption=f"{labels['rule']} {labels['limits']}", caption_justify="left")
        _columns(table, "label", "neighbours say", "share", "own", "path")
        for row in labels["shown"][:LISTED]:
            shares = (f"{row['share_suggested']:.0%}", f"{row['share_own']:.0%}")
            table.add_row(row["image"]["label"], row["suggested"], *shares, row["image"]["path"])
        out.print(table)
    if max(copies["total"], leaks["total"], labels["total"]) > LISTED:
        out.print("\nMore with --json.")


def _columns(table: Table, /, *names: str) -> None:
    for name in names:
        table.add_column(name, overflow="fold")
