"""A CUDA device that is not there: its tensors compute on the CPU and refuse what a device's tensors refuse.

    python -m pytest -p tests.helpers.pretended_cuda -m gpu

It shows that data lies where it must and that streams, events and pinned memory are used as they may be; of speed,
precision and what runs at the same time it shows nothing. Loading it changes torch for the whole process.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
MEMORY = 1 << 40

_aten = torch.ops.aten
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_MATRICES = {_aten.mm.default, _aten.bmm.default, _aten.addmm.default, _aten.cat.default, _aten.stack.default}
_FACTORIES = (
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm"),
    *("tensor", "tril_indices", "triu_indices", "zeros"),
)
_tensor_to, _copy_, _one_hot = torch.Tensor.to, torch.Tensor.copy_, torch.nn.functional.one_hot


class There(torch.Tensor):
    """A tensor on the device; `here` holds its numbers."""

    here: torch.Tensor
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device="meta",
            dispatch_device=True,
        )
        made.here = here
        return made

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.here.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        return There(torch.tensor(data, dtype=dtype or self.dtype))

    def record_stream(self, stream: "Stream") -> None:
        stream.used = True

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: value for name, value in (kwargs or {}).items() if name not in ("device", "pin_memory")}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        others = [each for each in given if not isinstance(each, There)]
        numbers_alone = all(each.ndim == 0 for each in others) and func not in _MATRICES
        if others and not (isinstance(args[0], There) if func in _INDEXING else numbers_alone):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
        # an operation in place returns what it was given
        known = {id(each.here): each for each in given if isinstance(each, There)}

        def there(each: Any) -> Any:
            return known[id(each)] if id(each) in known else There(each) if isinstance(each, torch.Tensor) else each

        return tree_map(there, func(*tree_map(_here, args), **tree_map(_here, kwargs)))


def _here(each: Any) -> Any:
    return each.here if isinstance(each, There) else each


def _to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    for each in args:
        if isinstance(each, torch.dtype):
            dtype = each
        elif isinstance(each, torch.Tensor):
            device, dtype = each.device, each.dtype
        elif isinstance(each, str | torch.device):
            device = each
    was_there = isinstance(self, There)
    goes_there = was_there if device is None else torch.device(device).type == "cuda"
    if was_there != goes_there:
        kwargs["copy"] = True
    numbers = _tensor_to(_here(self), dtype=dtype or self.dtype, **kwargs)
    if numbers is _here(self):
        return self
    return There(numbers) if goes_there else numbers


def _copied(self: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _copy_(_here(self), _here(source))
    return self


def _hot(tensor: torch.Tensor, *args: Any) -> torch.Tensor:
    found = _one_hot(_here(tensor), *args)
    return There(found) if isinstance(tensor, There) else found


def _factory(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, device: Any = None, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:
        if device is None or torch.device(device).type != "cuda":
            return make(*args, **kwargs)
        if make is _empty and math.prod(args) > MEMORY:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return _to(make(*args, **kwargs), device)

    return made


class Stream:
    def __init__(self, device: Any = None) -> None:
        self.used = False

    def wait_stream(self, stream: "Stream") -> None:
        assert isinstance(stream, Stream)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._timing, self._at = enable_timing, math.nan

    def record(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "Event") -> float:
        if math.isnan(self._at + end._at):
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        assert self._timing
        assert end._timing
        return 1000 * (end._at - self._at)


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, **kwargs)


_empty = torch.empty
for _name in _FACTORIES:
    setattr(torch, _name, _factory(getattr(torch, _name)))
torch.Tensor.to = There.to = _to
torch.Tensor.cuda = There.cuda = lambda self: _to(self, DEVICE)
torch.Tensor.cpu = There.cpu = lambda self: _to(self, "cpu")
torch.Tensor.copy_ = There.copy_ = _copied
torch.nn.functional.one_hot = _hot
torch.autocast = _Autocast
torch.cuda.Stream, torch.cuda.Event = Stream, Event
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.get_device_name = lambda device=None: "a pretended GPU"
torch.cuda.get_device_capability = lambda device=None: (9, 0)
torch.cuda.current_stream = Stream
torch.cuda.stream = lambda stream: stream
torch.cuda.set_device = lambda device: None
torch.cuda.synchronize = lambda device=None: None
torch.cuda.empty_cache = lambda: None
