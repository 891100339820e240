"""The `zooscout` command."""

import sys

import typer
from pydantic import ValidationError

from service.cli import (
    datasets,
    db,
    embeddings,
    estimators,
    keys,
    models,
    rank,
    rankings,
    reference,
    score,
    serve,
    store,
)
from service.cli.output import fail
from service.core.errors import ServiceError

INTERRUPTED = 130
app = typer.Typer(
    name="zooscout",
    help="Which pretrained vision model to fine-tune on your data: ranked by how well its features transfer, "
    "with honest uncertainty, without fine-tuning anything.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog="Start with: `zooscout models import timm`, then `zooscout rank PATH --models 'resnet*'`.",
)
app.command("rank")(rank.rank)
app.command("score")(score.score)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("demo")(serve.demo)
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(rankings.app, name="rankings")
app.add_typer(reference.app, name="reference")
app.add_typer(embeddings.app, name="embeddings")
app.add_typer(store.app, name="store")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.command("estimators")(estimators.list_estimators)


def run() -> None:
    """Entry point: what a user did wrong is one line and exit status 1, never a traceback."""
    try:
        app()
    except ServiceError as error:
        fail(str(error))
    except ValidationError as error:
        fail("; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in error.errors()))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer turns Ctrl-C into it, without a word
            sys.stderr.write("\nInterrupted. What was computed is kept; run the same command again to go on.\n")
        raise
