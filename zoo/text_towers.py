"""What turns tokens into layers of features: an encoder of transformers, or the text tower of an open_clip model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from zoo.build import open_clip_model
from zoo.catalog import ModelCard
from zoo.errors import BadCard, UnknownArchitecture, WeightsMismatch
from zoo.libraries import open_clip, transformers
from zoo.sources import has_own_tokenizer

NOT_NEEDED = ("pooler.",)
REFUSALS = (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError, OSError, ImportError)
_NO_LIMIT = 1_000_000  # a tokenizer without a limit says 10**30


class Layers(NamedTuple):
    """Float32 features `[N, T, D]` of each layer, the embedding of the tokens first, and which tokens are of a text."""

    hidden: Sequence[torch.Tensor]
    mask: torch.Tensor


class Tower(Protocol):
    """`lengths` holds what the model and its tokenizer allow; `last` is the number of layers, 0 where none is seen."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def last(self) -> int: ...

    @property
    def lengths(self) -> Sequence[int]: ...

    def tokens(self, texts: Sequence[str], max_length: int | None, /) -> list[list[int]]:
        """Of each text, cut where a length is given."""

    def layers(self, tokens: Sequence[Sequence[int]], device: torch.device, /) -> Layers: ...


@dataclass(frozen=True, slots=True, eq=False)
class TransformersTower:
    module: nn.Module
    tokenizer: Any

    @property
    def last(self) -> int:
        config: Any = self.module.config
        return int(config.num_hidden_layers)

    @property
    def lengths(self) -> Sequence[int]:
        config: Any = self.module.config
        found = (int(self.tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", None) or 0))
        return [length for length in found if 0 < length < _NO_LIMIT]

    def tokens(self, texts: Sequence[str], max_length: int | None, /) -> list[list[int]]:
        asked = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
        cut = {"truncation": max_length is not None, "max_length": max_length}
        found: list[list[int]] = self.tokenizer(list(texts), **asked, **cut)["input_ids"]
        return found

    def layers(self, tokens: Sequence[Sequence[int]], device: torch.device, /) -> Layers:
        width = max(1, *map(len, tokens))
        ids = _padded(tokens, width, self.tokenizer.pad_token_id or 0).to(device)
        mask = _padded([[1] * len(own) for own in tokens], width, 0).to(device)
        found = self.module(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return Layers(found.hidden_states, mask)


@dataclass(frozen=True, slots=True, eq=False)
class OpenClipTower:
    """Gives the embedding that it was trained to give alone, as one token."""

    module: nn.Module
    tokenizer: Any
    context_length: int
    last: int = 0

    @property
    def lengths(self) -> Sequence[int]:
        return [self.context_length]

    def tokens(self, texts: Sequence[str], max_length: int | None, /) -> list[list[int]]:
        begin, end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        found = [[begin, *self.tokenizer.encode(text), end] for text in texts]
        if max_length is None:
            return found
        return [own if len(own) <= max_length else [*own[: max_length - 1], end] for own in found]

    def layers(self, tokens: Sequence[Sequence[int]], device: torch.device, /) -> Layers:
        ids = _padded(tokens, self.context_length, 0).to(device)
        module: Any = self.module
        made = module.encode_text(ids, normalize=False).unsqueeze(1)
        return Layers([made], torch.ones(made.shape[:2], dtype=torch.int64, device=device))


def transformers_tower(card: ModelCard, folder: Path, /) -> TransformersTower:
    library = transformers()
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = library.AutoConfig.from_pretrained(folder, **local)
        if config.model_type != card.architecture:
            raise BadCard(f"its config.json says {config.model_type}, the card {card.architecture}")
        module, found = library.AutoModel.from_pretrained(
            folder, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
        tokenizer = library.AutoTokenizer.from_pretrained(folder, **local)
    except REFUSALS as error:
        said = next(iter(str(error).splitlines()), "")[:300]
        raise UnknownArchitecture(card.architecture, library=card.library, reason=said) from error
    missing = [key for key in found["missing_keys"] if not key.startswith(NOT_NEEDED)]
    if missing or found["mismatched_keys"]:
        shapes = [str(each[0]) for each in found["mismatched_keys"]]
        raise WeightsMismatch(card.architecture, missing=sorted(missing), shapes=shapes)
    module.eval().requires_grad_(requires_grad=False)
    return TransformersTower(module, tokenizer)


def open_clip_tower(card: ModelCard, weights: Path, /) -> OpenClipTower:
    library = open_clip()
    config = library.get_model_config(card.architecture)
    text: dict[str, Any] = (config or {}).get("text_cfg", {})
    if not has_own_tokenizer(card.architecture, text):
        raise BadCard(f"the tokenizer of {card.architecture} does not come with open_clip, and nothing would pin it")
    module = open_clip_model(card, weights)
    module.visual = None
    module.float().eval().requires_grad_(requires_grad=False)
    length = int(text.get("context_length", 77))
    return OpenClipTower(module, library.get_tokenizer(card.architecture), length)


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int, /) -> torch.Tensor:
    made = torch.full((len(rows), width), fill, dtype=torch.int64)
    for row, own in enumerate(rows):
        made[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
    return made
