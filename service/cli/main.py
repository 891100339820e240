"""The `zooscout` command."""

import sys
from collections.abc import Sequence
from importlib import import_module

import httpx
import typer
from pydantic import ValidationError

from estimators.errors import EstimatorError
from service.cli.connection import add_options
from service.cli.exits import Exit, Interrupted, of_error
from service.cli.output import fail
from service.client import ApiProblem
from service.core.errors import ServiceError

COMMANDS = {  # in the order of the help: the module of service.cli and what it declares, a group or a function
    "rank": ("rank", "rank"),
    "recommend": ("recommend", "recommend"),
    "prescore": ("prescore", "prescore"),
    "changes": ("prescore", "changes"),
    "score": ("score", "score"),
    "finetune": ("finetune", "finetune"),
    "serve": ("serve", "serve"),
    "worker": ("serve", "worker"),
    "demo": ("serve", "demo"),
    "models": ("models", "app"),
    "datasets": ("datasets", "app"),
    "rankings": ("rankings", "app"),
    "prescores": ("prescore", "app"),
    "reference": ("reference", "app"),
    "outcomes": ("outcomes", "app"),
    "embeddings": ("embeddings", "app"),
    "webhooks": ("webhooks", "app"),
    "store": ("store", "app"),
    "keys": ("keys", "app"),
    "db": ("db", "app"),
    "doctor": ("doctor", "doctor"),
    "estimators": ("estimators", "list_estimators"),
    "agreement": ("agreement", "agreement"),
}

OF_A_WORKER = frozenset(
    {"torch", "torchvision", "timm", "open_clip", "scipy", "sklearn", "safetensors", "huggingface_hub"}
)


def _itself() -> None: ...  # with it, a single command does not become the whole of the command line


def command_line(words: Sequence[str] = (), /) -> typer.Typer:
    """Every command; or the one alone that the words begin with, so that the others' modules need not be imported."""
    app = typer.Typer(
        name="zooscout",
        help="Which pretrained vision model to fine-tune on your data: ranked by how well its features transfer, "
        "with honest uncertainty, without fine-tuning anything.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        epilog="Start with: `zooscout models import timm`, then `zooscout rank PATH --models 'resnet*'`.",
        callback=_itself,
    )
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        module, attribute = COMMANDS[name]
        declared = getattr(import_module(f"service.cli.{module}"), attribute)
        if isinstance(declared, typer.Typer):
            app.add_typer(declared, name=name)
        else:
            app.command(name)(declared)
    return app


def run() -> None:
    """Entry point: what went wrong is one line and an exit status, never a traceback."""
    command = typer.main.get_command(command_line(sys.argv[1:]))
    add_options(command)
    try:
        command()
    except (ServiceError, ApiProblem) as error:
        fail(str(error), status=of_error(error))
    except EstimatorError as error:
        fail(str(error), status=Exit.BAD_INPUT)
    except httpx.TransportError as error:
        fail(
            f"The service does not answer: {error or type(error).__name__}. Check --url, or start it: zooscout serve.",
            status=Exit.UNREACHABLE,
        )
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in error.errors())
        fail(said, status=Exit.BAD_INPUT)
    except ModuleNotFoundError as error:
        if error.name not in OF_A_WORKER:
            raise
        fail(f"{error.name} is not installed here: pip install 'zooscout[worker]', or let a service do this (--url).")
    except Interrupted as interrupted:
        sys.stderr.write(f"\n{interrupted}\n")
        sys.exit(Exit.INTERRUPTED)
    except SystemExit as ended:
        if ended.code == Exit.INTERRUPTED:  # typer turns Ctrl-C into it, without a word
            sys.stderr.write("\nInterrupted. What was computed is kept; run the same command again to go on.\n")
        raise
