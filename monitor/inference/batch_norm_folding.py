"""Batch normalisation folded into the convolutions before it: the same function in fewer steps.

It knows nothing of recipes or devices.
"""

from __future__ import annotations

from contextlib import nullcontext

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monitor.teachers.architectures import NetworkLock


def fold_batch_norm(trunk: nn.Module, network_lock: NetworkLock | None = None) -> fx.GraphModule:
    """The trunk in eval mode, each batch normalisation after a convolution folded into that convolution.

    The argument is not changed, but shares its other weights with the result. `network_lock` is held while
    the trunk is traced.
    """
    with network_lock or nullcontext():
        graph = fx.symbolic_trace(trunk.eval())
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution = modules.get(before.target) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            fused = fuse_conv_bn_eval(convolution, modules[node.target])
            graph.set_submodule(before.target, fused)
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph.eval()
