"""A small relation model with random weights whose triplets pass the threshold, and its file."""

import torch

from llava.model.compensation.relation_model import RelationModel, RelationSizes

SIZES = RelationSizes(48, 16, 24, 2, 2, 5, 12, 152, 52)


def small_relation_model(seed=3, sizes=SIZES, none_bias=0.0):
    """A model of small width in eval mode; a high bias of "none" lets no triplet pass."""
    torch.manual_seed(seed)
    model = RelationModel(sizes).eval().requires_grad_(False)
    for head in (model.sub_class_embed, model.obj_class_embed, model.rel_class_embed.layers[-1]):
        head.weight.mul_(40)
        head.bias[-1] += none_bias
    for name, values in model.named_buffers():
        if name.endswith("running_mean"):
            values += 0.1
    return model


def save_relation_model(path, model=None):
    """Writes a model as the published file has it; returns the path."""
    model = small_relation_model() if model is None else model
    torch.save({"model": model.state_dict()}, path)
    return path
