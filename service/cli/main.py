"""The `zooscout` command."""

import sys

import httpx
import typer
from pydantic import ValidationError

from service.cli import (
    datasets,
    db,
    embeddings,
    estimators,
    finetune,
    keys,
    models,
    outcomes,
    rank,
    rankings,
    recommend,
    reference,
    score,
    serve,
    store,
    webhooks,
)
from service.cli.connection import add_options
from service.cli.exits import Exit, Interrupted, of_error
from service.cli.output import fail
from service.client import ApiProblem
from service.core.errors import ServiceError

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
app.command("recommend")(recommend.recommend)
app.command("score")(score.score)
app.command("finetune")(finetune.finetune)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("demo")(serve.demo)
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(rankings.app, name="rankings")
app.add_typer(reference.app, name="reference")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(embeddings.app, name="embeddings")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(store.app, name="store")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.command("estimators")(estimators.list_estimators)


def run() -> None:
    """Entry point: what went wrong is one line and an exit status, never a traceback."""
    command = typer.main.get_command(app)
    add_options(command)
    try:
        command()
    except (ServiceError, ApiProblem) as error:
        fail(str(error), status=of_error(error))
    except httpx.TransportError as error:
        fail(
            f"The service does not answer: {error or type(error).__name__}. Check --url, or start it: zooscout serve.",
            status=Exit.UNREACHABLE,
        )
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in error.errors())
        fail(said, status=Exit.BAD_INPUT)
    except Interrupted as interrupted:
        sys.stderr.write(f"\n{interrupted}\n")
        sys.exit(Exit.INTERRUPTED)
    except SystemExit as ended:
        if ended.code == Exit.INTERRUPTED:  # typer turns Ctrl-C into it, without a word
            sys.stderr.write("\nInterrupted. What was computed is kept; run the same command again to go on.\n")
        raise
