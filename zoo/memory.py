"""How much memory a forward pass takes: counted tensor by tensor, so that it is the same on every machine."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.extract import Extractor
from zoo.loading import AnyExtractor


def forward_bytes(extractor: AnyExtractor, /) -> int:
    """Bytes of weights, and the most that tensors hold at once while one image or one text of full length passes.

    What a library keeps beside tensors (workspaces of convolutions, the allocator's reserve) is not in it.
    """
    if isinstance(extractor, Extractor):
        pixels = torch.zeros(1, *extractor.card.preprocess.input_size, dtype=torch.uint8)
        return extractor.weight_bytes + most_alive(lambda: extractor.launch(pixels))
    text = "word " * extractor.max_length  # cut at what the encoder takes
    return extractor.weight_bytes + most_alive(lambda: extractor.forward([text]))


def most_alive(run: Callable[[], object], /) -> int:
    alive = _Alive()
    with alive:
        run()
    return alive.most


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums what tensors made under it hold, until they are gone. What was there before is not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._held: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(each) for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor) and _storage(each) not in given | self._held:
                self._hold(each.untyped_storage())
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._held.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._let_go, key, size).atexit = False

    def _let_go(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.now -= size


def _storage(tensor: torch.Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key
