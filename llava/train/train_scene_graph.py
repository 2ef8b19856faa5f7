"""The relation model of the mini model, on drawn scenes whose graphs are known.

    python -m llava.train.train_scene_graph --data ... --output checkpoint0104.pth --output-dir ...

The work of the stage is in llava.mini.stages.scene_graph.
"""

from __future__ import annotations

import sys

from llava.mini.stages.arguments import SceneGraphArguments
from llava.train.command import stage_command

train_scene_graph, main, __getattr__ = stage_command(
    SceneGraphArguments, "train_scene_graph", "llava.mini.stages.scene_graph", __doc__
)

if __name__ == "__main__":
    sys.exit(main())
