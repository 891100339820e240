"""Where the installed libraries say that a registry entry's weights are published."""

from zoo.errors import WeightsNotFound
from zoo.libraries import open_clip, timm
from zoo.uris import HubUri, RegistryUri


def published_at(entry: RegistryUri, /) -> HubUri:
    """The hub repository of a registry entry. Raises WeightsNotFound where the library names none."""
    name = f"{entry.architecture}.{entry.tag}"
    match entry.library:
        case "timm":
            repo, filename, elsewhere = _timm(name)
        case _:
            repo, filename, elsewhere = _open_clip(entry)
    if repo is None:
        reason = f"{entry.library} has no such entry"
        if elsewhere:
            reason = f"{entry.library} publishes it at {elsewhere} only; download it and name it with file:"
        raise WeightsNotFound(f"{entry.library}:{name}", reason=reason)
    return HubUri(repo, entry.revision, filename)


def _timm(name: str, /) -> tuple[str | None, str | None, str | None]:
    library = timm()
    if name not in library.list_pretrained(name.partition(".")[0] + ".*"):
        return None, None, None
    config = library.get_pretrained_cfg(name)
    return config.hf_hub_id, config.hf_hub_filename, config.url or None


def _open_clip(entry: RegistryUri, /) -> tuple[str | None, str | None, str | None]:
    config = open_clip().get_pretrained_cfg(entry.architecture, entry.tag)
    place = config.get("hf_hub") or ""
    if not place:
        return None, None, config.get("url") or None
    repo, _, filename = place.rpartition("/")
    return repo, filename or None, None
