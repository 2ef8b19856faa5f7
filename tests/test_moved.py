"""Names of before are still found."""

import sys
import warnings
from importlib import import_module

import pytest

from llava.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_a_module_is_found_under_its_old_name(old):
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is .*llava.* now"):
        module = import_module(old)
        for new in map(import_module, MOVED[old]):
            assert new.__spec__.name == new.__name__
            for name, value in vars(new).items():
                if getattr(value, "__module__", None) == new.__name__:
                    assert getattr(module, name) is value
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing


def test_what_is_put_in_the_place_of_an_old_name_counts(monkeypatch):
    monkeypatch.setattr("llava.eval.shared.QUESTIONS_AT_ONCE", 1)
    assert import_module("llava.eval.caches").QUESTIONS_AT_ONCE == 1


def test_the_builder_still_has_what_moved_out_of_it():
    from llava.arguments import list_flag

    builder = import_module("llava.model.builder")
    with pytest.warns(FutureWarning):
        assert builder.list_flag is list_flag and callable(builder.load_selector)


def test_a_class_is_found_under_its_old_name():
    from llava.model.kv_cache import DecodeSession

    with pytest.warns(FutureWarning, match="Reader of llava.model.reading is DecodeSession of"):
        sys.modules.pop("llava.model.reading", None)
        assert import_module("llava.model.reading").Reader is DecodeSession


def test_the_new_name_is_said_once_and_a_name_of_nowhere_is_not_found():
    sys.modules.pop("llava.model.parts", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = import_module("llava.model.parts")
        assert all((parts.Placement, parts.build_clip, parts.fill_llm))
    assert [warning.category for warning in caught] == [FutureWarning]
    with pytest.raises(ModuleNotFoundError):
        import_module("llava.model.partz")
