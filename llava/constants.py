"""Constants of LLaVA-1.5's prompt format, and the names of the benchmarks."""

IMAGE_TOKEN_INDEX = -200  # stands for the image in a list of token ids; never an id of a vocabulary
DEFAULT_IMAGE_TOKEN = "<image>"

# LLaVA-1.5 adds this after a question to ask for a short answer.
SHORT_ANSWER_SUFFIX = "\nAnswer the question using a single word or phrase."
OPTION_LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
# MMVP has this between question and options, and MME after a question.
OPTIONS_HEADING = "Options:"
YES_OR_NO = "Please answer yes or no."
# Heading of the caption for the LLM.
CAPTION_HEADING = "additional information:"

BENCHMARKS = ("mme", "mmbench", "pope", "mmvp", "seed", "gqa", "flickr")
