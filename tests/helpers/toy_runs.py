"""What runs of the toy stage leave behind, and runs that are stopped."""

import json
import shutil

from tests.helpers.toy_stage import ToyData


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]


def final_weights(folder):
    return (folder / "step-00000024" / "model.safetensors").read_bytes()


def assert_same(folder, other):
    assert (folder / "loss.jsonl").read_bytes() == (other / "loss.jsonl").read_bytes()
    assert final_weights(folder) == final_weights(other)


def interrupted(undisturbed, folder):
    """A copy of a run without its last checkpoint."""
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "step-00000024")
    return folder


class StoppedData(ToyData):
    """Ctrl-C comes when the micro batch of that number is made."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def collate(self, indices, generator):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().collate(indices, generator)
