"""Functions of one pixel at a time, computed block by block with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers per temporary on the CPU: a few of them then fit in its cache.
BLOCK = 2**14


def in_blocks(function: Callable[..., Tensor], levels: Tensor, *params: Tensor) -> Tensor:
    """``function(levels, *params)``, computed in float64, in the parameters' own float type.

    levels : (…, N, C, H, W); params broadcast with it. `function` treats every number by itself
    (what it closes over has at most three axes, such as a `top` of (C, 1, 1)).

    Float64, since a difference of two tails needs the digits. Gradients are taken within each
    block, so that what autograd would keep of the whole image never leaves the cache: one number
    per parameter is kept. There are no second derivatives.
    """
    shape = torch.broadcast_shapes(levels.shape, *(p.shape for p in params))
    wanted = tuple(torch.is_grad_enabled() and p.requires_grad for p in params)
    expanded = [tensor.expand(shape) for tensor in (levels, *params)]
    return _InBlocks.apply(function, wanted, *expanded)


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        wanted: tuple[bool, ...],
        levels: Tensor,
        *params: Tensor,
    ) -> Tensor:
        values = params[0].new_empty(levels.shape)
        gradients = [
            p.new_empty(levels.shape) if want else None
            for p, want in zip(params, wanted, strict=True)
        ]
        rows = max(1, len(levels))
        if levels.device.type == "cpu":
            rows = max(1, BLOCK * len(levels) // max(1, levels.numel()))
        for start in range(0, len(levels), rows):
            block = slice(start, start + rows)
            inner = [
                p[block].detach().double().requires_grad_(want)
                for p, want in zip(params, wanted, strict=True)
            ]
            with torch.set_grad_enabled(any(wanted)):
                value = function(levels[block], *inner)
                total = value.sum()
            values[block] = value.detach()
            asked = [(g, p) for g, p in zip(gradients, inner, strict=True) if g is not None]
            if asked:
                parts = torch.autograd.grad(total, [p for _, p in asked])
                for (gradient, _), part in zip(asked, parts, strict=True):
                    gradient[block] = part
        ctx.save_for_backward(*gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if g is None else outer * g for g in ctx.saved_tensors)
        return None, None, None, *gradients
