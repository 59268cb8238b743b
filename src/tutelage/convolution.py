"""The convolution of a stack of frames, as a CPU learns it fastest."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def frame_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any
) -> Tensor:
    """Return ``conv2d`` of frames ``[B,C,H,W]``; while a CPU learns in fp32, in three dimensions.

    Both are the same sum. But oneDNN pads the four channels of two dimensions to sixteen as it
    multiplies the gradient: the weights' takes 22 ms for a batch of 128, where the one channel of
    three dimensions takes 3.
    """
    learning = torch.is_grad_enabled() and weight.requires_grad
    if not learning or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, bias, stride, padding)
    steps, edges = (1, *stride), (0, *padding)
    return F.conv3d(x.unsqueeze(1), weight.unsqueeze(1), bias, steps, edges).squeeze(2)


class FrameConv2d(nn.Conv2d):
    """The first convolution of a network, over a stack of frames."""

    def forward(self, x: Tensor) -> Tensor:
        return frame_conv2d(x, self.weight, self.bias, self.stride, self.padding)
