import pytest

from llava.errors import UserError
from llava.model.language_model.llama_tokenizer import LlamaTokenizer


@pytest.fixture(scope="module")
def tokenizer(checkpoints):
    return LlamaTokenizer(checkpoints / "llava-v1.5-tiny")


def test_texts_of_the_recorded_cases(golden, tokenizer):
    for case in golden.json("accm_cases.json"):
        assert tokenizer.encode(case["supplement_text"]) == case["supplement_ids"]
        assert tokenizer.decode(case["out_ids"]) == case["out_text"]


def test_special_tokens_in_a_text_count_as_tokens(tokenizer):
    assert tokenizer.encode("<s></s><unk>")[1:] == [1, 2, 0]


def test_ids_beyond_the_vocabulary_are_left_out(tokenizer):
    ids = tokenizer.encode("A dog")
    assert tokenizer.decode([*ids, len(tokenizer) + 7, -200]) == tokenizer.decode(ids) == "A dog"


@pytest.mark.parametrize("text", ["", "\x00\x07", "日本語 ñ 🙂", "a▁b", "\n\n", "A" + " " * 50])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


def test_a_missing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(UserError, match="tokenizer.model"):
        LlamaTokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x01\x02")
    with pytest.raises(UserError, match="download it again"):
        LlamaTokenizer(tmp_path)
