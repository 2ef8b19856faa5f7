"""Losses of a set of predictions against a set of truths (arXiv 2005.12872, 2201.11460).

Each truth is matched with one query, so that the sum of the costs is the least; queries without a
truth learn to say "none". Losses are means over an image and sums over images, so that they do not
depend on how a batch is split.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.extras import missing_package

try:
    from scipy.optimize import linear_sum_assignment
except ModuleNotFoundError as error:
    raise missing_package("learning of scene graphs", error.name, "train") from error

BOX_L1, BOX_GIOU = 5.0, 2.0  # weights of the two distances of boxes, in costs and losses
NONE_WEIGHT = 0.1  # of the class "none", which most queries are
RIGHT_IOU = 0.7  # from here on a box lies where a truth lies


class Nodes(NamedTuple):
    """The predictions of the queries of B images.

    Attributes:
        logits: (B, Q, classes), "none" last.
        boxes: (B, Q, 4), centre x, centre y, width, height, from 0 to 1.
    """

    logits: Tensor
    boxes: Tensor


class Truths(NamedTuple):
    """The truths of B images, padded to the longest.

    Attributes:
        classes: (B, M) int64.
        boxes: (B, M, 4), as those of Nodes.
        valid: (B, M) bool, False for padding, which comes last.
    """

    classes: Tensor
    boxes: Tensor
    valid: Tensor


def overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Returns IoU and generalised IoU (arXiv 1902.09630) of boxes (..., 4) with others (..., 4)."""
    low, high = _corners(boxes)
    other_low, other_high = _corners(others)
    shared = (high.minimum(other_high) - low.maximum(other_low)).clamp(min=0).prod(-1)
    around = (high.maximum(other_high) - low.minimum(other_low)).prod(-1)
    union = boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - shared
    iou = shared / union
    return iou, iou - (around - union) / around


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return middle - half, middle + half


def node_costs(found: Nodes, truths: Truths) -> Tensor:
    """Returns the costs (B, Q, M) of matching each query with each truth."""
    boxes, true_boxes = found.boxes[:, :, None], truths.boxes[:, None]
    distance = (boxes - true_boxes).abs().sum(-1)
    _, giou = overlaps(boxes, true_boxes)
    index = truths.classes[:, None].expand(-1, found.logits.shape[1], -1)
    probs = found.logits.softmax(-1).gather(-1, index)
    return BOX_L1 * distance - BOX_GIOU * giou - probs


def match(costs: Tensor, valid: Tensor) -> Tensor:
    """Returns the query (B, M) int64 of each truth, at the least cost; of padding Q.

    Args:
        costs: (B, Q, M), finite; M is at most Q.
        valid: (B, M), see Truths.
    """
    found = torch.full(valid.shape, costs.shape[1])
    counts = valid.sum(1).tolist()
    for place, (rows, count) in enumerate(zip(costs.detach().cpu().numpy(), counts)):
        queries, truths = linear_sum_assignment(rows[:, :count])
        found[place, truths] = torch.from_numpy(queries)
    return found.to(costs.device)


def targets(queries: Tensor, classes: Tensor, num_queries: int, none: int) -> Tensor:
    """Returns the class (B, Q) that each query is to say: that of its truth, or none."""
    empty = queries.new_full((len(queries), num_queries + 1), none)
    return empty.scatter(1, queries, classes)[:, :num_queries]


def class_loss(logits: Tensor, wanted: Tensor, forgiven: Tensor | None = None) -> Tensor:
    """Returns the cross-entropy, a weighted mean over the queries of each image, summed.

    Args:
        logits: (B, Q, classes), "none" last.
        wanted: (B, Q), see targets.
        forgiven: (B, Q) bool, queries that need not say "none".
    """
    is_none = wanted == logits.shape[-1] - 1
    weights = torch.where(is_none, NONE_WEIGHT, 1.0)
    if forgiven is not None:
        weights = weights.masked_fill(is_none & forgiven, 0)
    each = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    return ((weights * each.view_as(weights)).sum(1) / weights.sum(1)).sum()


def box_loss(boxes: Tensor, truths: Truths, queries: Tensor) -> Tensor:
    """Returns the distances of matched boxes, a mean over the truths of each image, summed."""
    index = queries.clamp(max=boxes.shape[1] - 1)[..., None].expand(-1, -1, 4)
    matched = boxes.gather(1, index)
    _, giou = overlaps(matched, truths.boxes)
    each = BOX_L1 * (matched - truths.boxes).abs().sum(-1) + BOX_GIOU * (1 - giou)
    return ((each * truths.valid).sum(1) / truths.valid.sum(1)).sum()


def is_right(found: Nodes, truths: Truths) -> Tensor:
    """Returns which queries (B, Q) say the class of a truth where that lies, matched or not."""
    iou, _ = overlaps(found.boxes[:, :, None], truths.boxes[:, None])
    same = found.logits.argmax(-1)[..., None] == truths.classes[:, None]
    return (same & (iou >= RIGHT_IOU) & truths.valid[:, None]).any(-1)


def node_loss(
    found: Nodes, truths: Truths, queries: Tensor, forgiven: Tensor | None = None
) -> Tensor:
    """Returns the loss of classes and boxes, summed over images; see class_loss and box_loss."""
    num_queries, none = found.logits.shape[1], found.logits.shape[2] - 1
    wanted = targets(queries, truths.classes, num_queries, none)
    return class_loss(found.logits, wanted, forgiven) + box_loss(found.boxes, truths, queries)
