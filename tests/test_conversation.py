import pytest

from llava.conversation import conversation, question_prompt
from llava.errors import UserError


def test_prompts_are_the_recorded_ones(bundled):
    for case in bundled.json("prompts.json")["conversations"]:
        turns = conversation(case["mode"])
        for speaker, text in case["messages"]:
            turns = turns.append(speaker, text)
        if case.get("error"):
            with pytest.raises(UserError, match="single turn"):
                turns.prompt()
        else:
            assert turns.prompt() == case["prompt"], case["mode"]


def test_appending_leaves_the_template_as_it_was():
    conversation().append(0, "Hello")
    assert conversation().messages == ()


def test_question_prompt_is_the_one_of_the_method(bundled):
    for case in bundled.json("accm_cases.json"):
        assert question_prompt(case["llm_question"]) == case["prompt"]


def test_unknown_template_names_the_known():
    with pytest.raises(UserError, match="vicuna_v1"):
        conversation("v2")
