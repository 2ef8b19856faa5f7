"""The seven benchmarks: their homes, what they hold, and on what terms.

Counts are those of the files that LLaVA and the method's authors were measured on. Sizes are from
memory but for GQA's archives, whose page says them; what is fetched in fact is said when the home
has been asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llava.benchmarks.sources import AskedImages, ByHand, HubFiles, Source, WebFile, ZipParts
from llava.eval.benchmarks.mme import COGNITION, PERCEPTION


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as its home has it.

    Attributes:
        name: of llava.eval.benchmarks.registry.BENCHMARKS.
        title: for people.
        home: its page.
        licence: as its publisher states it, in short.
        gigabytes: about so much is fetched.
        sources: in the order in which they are needed: questions before the images they ask about.
        questions: how many, by the folder of their images below the benchmark's; "" means all.
        images: how many files of images they are about; 0 where the images are in the table.
        asked: about that many questions in all, for estimates.
        terms: what has to be agreed to before it is fetched; None where nothing has to be.
        note: what else a reader should know; may be empty.
    """

    name: str
    title: str
    home: str
    licence: str
    gigabytes: float
    sources: tuple[Source, ...]
    questions: Mapping[str, int]
    images: int | None
    asked: int
    terms: str | None = None
    note: str = ""


_POPE = "https://raw.githubusercontent.com/AoiDragon/POPE/e3e39262c85a6a83f26cf5094022a782cb0df58d"
_GQA = "https://downloads.cs.stanford.edu/nlp/data/gqa"
_MME_TASKS = "|".join(PERCEPTION + COGNITION)

_FLICKR_IMAGES = ByHand(
    folder="flickr30k-images",
    archives=(
        "flickr30k-images.tar.gz",
        "flickr30k-images.tar",
        "flickr30k-images.zip",
        "flickr30k_images.zip",
    ),
    members=r"(?:.*/)?([^/.][^/]*\.jpg)",
    how=(
        "The images are Flickr users': ask for them with the form at "
        "https://shannon.cs.illinois.edu/DenotationGraph and put the archive that you are sent "
        "(flickr30k-images.tar.gz, about 4.4 GB) into {folder}, or the images into "
        "{folder}/flickr30k-images; the same command unpacks and checks them."
    ),
)
_SEED_FRAMES = ByHand(
    folder="SEED-Bench-video-image",
    archives=("SEED-Bench-video-image.zip", "SEED-Bench-video-image.tar.gz"),
    members=r"(?:.*/)?([^/.][^/]*\.png)",
    how=(
        "A quarter of the questions are about videos that have terms of their own: get "
        "Something-Something v2, EPIC-KITCHENS-100 and Breakfast as "
        "https://github.com/AILab-CVC/SEED-Bench/blob/main/DATASET.md says, take the middle frame "
        "of each segment (LLaVA's extract_video_frames.py does that), and put the frames into "
        "{folder}/SEED-Bench-video-image/<question_type_id>_<question_id>.png."
    ),
)

_ALL = (
    Benchmark(
        name="mme",
        title="MME",
        home="https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models",
        licence="academic research only, no commercial use, no redistribution",
        gigabytes=0.9,
        sources=(
            ZipParts(
                file="MME_Benchmark_release_version.zip",
                repository="darkyarding/MME",
                members=rf"(?:.*/)?((?:{_MME_TASKS})/(?:.*/)?[^/.][^/]*\.(?:txt|jpg|png|jpeg))",
                folder="MME_Benchmark_release_version",
            ),
        ),
        questions={"": 2374},
        images=1187,
        asked=2374,
        terms=(
            "MME may be used only by those who agree that it is for academic research, not for "
            "commerce, and is not passed on; its authors' page links the archive"
        ),
    ),
    Benchmark(
        name="mmbench",
        title="MMBench (dev, en)",
        home="https://github.com/open-compass/MMBench",
        licence="Apache-2.0 for the repository; images of several sources",
        gigabytes=0.1,
        sources=(
            WebFile(
                "https://download.openmmlab.com/mmclassification/datasets/mmbench/"
                "mmbench_dev_20230712.tsv",
                "mmbench_dev_20230712.tsv",
                begins=r"[^\n]*\bquestion\b[^\n]*\n",
            ),
        ),
        questions={"": 4377},
        images=0,
        asked=4377,
    ),
    Benchmark(
        name="pope",
        title="POPE",
        home="https://github.com/AoiDragon/POPE",
        licence="MIT; images of COCO val2014 (Flickr's terms)",
        gigabytes=0.1,
        sources=(
            *(
                WebFile(f"{_POPE}/output/coco/{name}", f"coco/{name}", r'\{"question_id"')
                for name in (
                    "coco_pope_adversarial.json",
                    "coco_pope_popular.json",
                    "coco_pope_random.json",
                )
            ),
            # Without https: the certificate is for another name.
            AskedImages("http://images.cocodataset.org/val2014", "val2014"),
        ),
        questions={"": 8910},
        images=500,
        asked=8910,
        note="only the 500 images of the questions, not the 6.6 GB of val2014",
    ),
    Benchmark(
        name="mmvp",
        title="MMVP",
        home="https://huggingface.co/datasets/MMVP/MMVP",
        licence="MIT; images of ImageNet and LAION",
        gigabytes=0.02,
        sources=(HubFiles("MMVP/MMVP", "dataset", ("*Questions.csv", "MMVP Images/*")),),
        questions={"": 300},
        images=300,
        asked=300,
    ),
    Benchmark(
        name="seed",
        title="SEED-Bench",
        home="https://huggingface.co/datasets/AILab-CVC/SEED-Bench",
        licence="CC-BY-NC-4.0; images of CC3M and videos under their own terms",
        gigabytes=10,
        sources=(
            HubFiles("AILab-CVC/SEED-Bench", "dataset", ("*SEED-Bench.json",), flat=True),
            ZipParts(
                file="SEED-Bench-image.zip",
                repository="AILab-CVC/SEED-Bench",
                members=r"(?:.*/)?([^/.][^/]*)",
                folder="SEED-Bench-image",
                only_asked=True,
            ),
            _SEED_FRAMES,
        ),
        questions={"SEED-Bench-image": 14233},
        images=None,  # the videos were revised in November 2023
        asked=19242,
    ),
    Benchmark(
        name="gqa",
        title="GQA (testdev_balanced)",
        home="https://cs.stanford.edu/people/dorarad/gqa/download.html",
        licence="CC-BY-4.0; images of Visual Genome",
        gigabytes=0.1,
        sources=(
            ZipParts(
                file=f"{_GQA}/questions1.2.zip",
                members=r"(?:.*/)?(testdev_balanced_questions\.json)",
                folder="data",
            ),
            ZipParts(
                file=f"{_GQA}/images.zip",
                members=r"(?:.*/)?([^/.][^/]*\.jpg)",
                folder="data/images",
                only_asked=True,
            ),
        ),
        questions={"": 12578},
        images=398,
        asked=12578,
        note="only the questions and images of testdev, not the archives of 1.4 and 20.3 GB",
    ),
    Benchmark(
        name="flickr",
        title="Flickr30k",
        home="https://shannon.cs.illinois.edu/DenotationGraph",
        licence="research and education only; the images are Flickr users'",
        gigabytes=0.04,
        sources=(
            HubFiles(
                "fumingyu064/ACCM",
                "model",
                ("*questions-3k.jsonl", "*annotations-3k.jsonl"),
                flat=True,
                optional=True,  # Karpathy's test split is asked about then
            ),
            ZipParts(
                file="https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",
                members=r"(?:.*/)?(dataset_flickr30k\.json)",
                folder="",
            ),
            _FLICKR_IMAGES,
        ),
        questions={},  # the authors' file of some 3,000 was not at hand to be counted
        images=None,
        asked=3000,
    ),
)
KNOWN = {benchmark.name: benchmark for benchmark in _ALL}
