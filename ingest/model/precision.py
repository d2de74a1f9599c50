"""How numbers round inside a block of code: TF32 or not, and float64 kept where the model would drop it.

Hugging Face's norms and softmax ask for float32 on the way, whatever the model's type. In a float64 model that leaves
float32's rounding in every block, and sums close to 1e-6 only. Within `lift_norm_casts` such requests leave float64
tensors as they are. Nothing of the model is changed for it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from atlas.errors import ModelError
from ingest.model.model import Model, product_precision


@contextmanager
def lift_norm_casts(model: Model) -> Iterator[None]:
    """Within the block a float64 model computes norms and softmax in float64 too. Raises ModelError for other types."""
    if model.dtype != torch.float64:
        raise ModelError(f"{model.identity.name} in {model.precision}", "a model loaded with precision fp64")
    with _KeepFloat64():
        yield


@contextmanager
def precision_of(model: Model) -> Iterator[None]:
    """Within the block everything rounds as the model's precision says."""
    with ExitStack() as stack:
        stack.enter_context(product_precision(model.precision))
        if model.dtype == torch.float64:
            stack.enter_context(_KeepFloat64())
        yield


class _KeepFloat64(TorchFunctionMode):
    """Turns a request for float32 from a float64 tensor into none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = args[0] if args else kwargs.get("input")
        if isinstance(given, torch.Tensor) and given.dtype == torch.float64:
            if func is torch.Tensor.float:
                return given
            if func is torch.nn.functional.softmax:
                kwargs["dtype"] = None
        return func(*args, **kwargs)
