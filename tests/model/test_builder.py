import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants as hub_constants
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionModel

from llava.errors import UserError
from llava.model.builder import load_pretrained_model
from llava.model.compensation.builder import build_caption_model, build_long_clip, build_selector
from llava.model.language_model.builder import device_in, empty_llm, fill_llm
from llava.model.loading.llava_config import read_llava_config, split_llava
from llava.model.loading.placement import Placement
from llava.model.loading.weights import read_checkpoint
from llava.model.multimodal_encoder.builder import build_clip
from llava.model.multimodal_projector.builder import build_projector
from llava.model.sample import Sample

MINI = Path(__file__).parents[2] / "checkpoints" / "accm-mini"
META = Placement(torch.device("meta"), torch.float16)
CLIP_LARGE = {
    "projection_dim": 768,
    "text_config": dict(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12
    ),
    "vision_config": dict(
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
        image_size=336,
        patch_size=14,
    ),
}
VICUNA = {
    "llava-v1.5-7b": dict(
        hidden_size=4096, intermediate_size=11008, num_attention_heads=32, num_hidden_layers=32
    ),
    "llava-v1.5-13b": dict(
        hidden_size=5120, intermediate_size=13824, num_attention_heads=40, num_hidden_layers=40
    ),
}


def layout(layouts, name):
    """A full-size file as tensors without contents."""
    entries = json.loads((layouts / f"{name}.json").read_text())["tensors"]
    return {key: torch.empty(entry["shape"], device="meta") for key, entry in entries.items()}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_full_size_clip(layouts):
    tensors = layout(layouts, "clip-vit-large-patch14-336")
    clip = build_clip(CLIP_LARGE, tensors, "clip", META)
    assert count(clip) == sum(t.numel() for t in tensors.values())


def test_full_size_caption_model(layouts):
    tensors = layout(layouts, "accm-caption-coco_prefix-009")
    model = build_caption_model({}, 768, tensors, "caption model", META)  # {}: GPT-2 small
    assert len(model.clip_project.prefix_const) == 20
    assert len(model.clip_project.transformer.layers) == 4


def test_full_size_long_clip_and_selector(layouts):
    tower = build_long_clip(layout(layouts, "longclip-L"), "LongCLIP", META)
    assert tower.positional_embedding.shape == (248, 768)
    tensors = layout(layouts, "accm-selector-llava-RL_prefix-019")
    selector = build_selector(768, tensors, "selector", META)
    assert count(selector) == sum(t.numel() for t in tensors.values())


@pytest.mark.parametrize("name", VICUNA)
def test_full_size_llava(layouts, name):
    config = read_llava_config(
        VICUNA[name]
        | dict(vocab_size=32000, max_position_embeddings=4096, mm_projector_type="mlp2x_gelu"),
        name,
    )
    parts = split_llava(layout(layouts, name), name)
    projector = build_projector(config, 1024, parts["projector"], name, META)
    llm = empty_llm(config.llm, name)
    fill_llm(llm, parts["llm"], name, torch.float16, lambda _: "meta")
    buffers = sum(t.numel() for key, t in parts["llm"].items() if "inv_freq" in key)
    total = sum(t.numel() for part in parts.values() for t in part.values())
    assert count(llm) + count(projector) == total - buffers


def test_a_full_size_file_of_another_model_is_refused(layouts):
    tensors = layout(layouts, "accm-selector-llava-RL_prefix-019")
    with pytest.raises(UserError, match="not a caption model"):
        build_caption_model({}, 768, tensors, "selector.pt", META)
    with pytest.raises(UserError, match="not a LongCLIP model"):
        build_long_clip(layout(layouts, "clip-vit-large-patch14-336"), "clip.pt", META)
    with pytest.raises(UserError, match="not a selector"):
        build_selector(768, layout(layouts, "longclip-L"), "longclip-L.pt", META)
    caption = layout(layouts, "accm-caption-coco_prefix-009")
    with pytest.raises(UserError, match=r"clip_project.linear.weight: expected \(768, 48\), found"):
        build_caption_model({}, 48, caption, "caption.pt", META)


@pytest.fixture(scope="module")
def image():
    return Image.linear_gradient("L").convert("RGB")


@pytest.fixture
def ask(image):
    return lambda model: model.answer([Sample(image, "What is it?", max_new_tokens=4)])[0]


def test_the_door_gives_what_llava_s_gives(tiny_settings, ask):
    tokenizer, model, processor, context_length = load_pretrained_model(**tiny_settings)
    assert context_length == 4096
    assert tokenizer.decode(tokenizer.encode("A dog")) == "A dog"
    assert processor is model.image_processor
    assert all(not p.is_meta and not p.requires_grad for p in model.parameters())
    assert not model.training
    ask(model)


def to_transformers_layout(source, clip_tensors, folder, new):
    """Writes the tiny LLaVA as transformers publishes it, before or since version 4.52."""
    names = {"model.mm_projector.0.": "linear_1.", "model.mm_projector.2.": "linear_2."}
    tensors = {}
    for key, tensor in read_checkpoint(source).items():
        projector = [(old, name) for old, name in names.items() if key.startswith(old)]
        if "inv_freq" in key:
            continue
        if projector:
            ((old, name),) = projector
            key = "multi_modal_projector." + key.replace(old, name)
            key = "model." + key if new else key
        elif new:
            key = key.replace("model.", "model.language_model.", 1)
        else:
            key = "language_model." + key
        tensors[key] = tensor.clone()
    for key, tensor in clip_tensors.items():
        if key.startswith("vision_model."):
            tensors[("model." if new else "") + f"vision_tower.{key}"] = tensor.clone()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    text = {k: v for k, v in config.items() if not k.startswith("mm_")} | {"model_type": "llama"}
    nested = {"model_type": "llava", "text_config": text, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(nested | {"vision_feature_layer": -2}))
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(source / name, folder)


@pytest.mark.parametrize("new", [False, True])
def test_transformers_layout_gives_the_same_answers(
    tmp_path, checkpoints, load_tiny, model, ask, new
):
    clip = checkpoints / "clip-vit-tiny-patch14-336"
    folder = tmp_path / "llava-hf"
    to_transformers_layout(checkpoints / "llava-v1.5-tiny", read_checkpoint(clip), folder, new)
    other = load_tiny(model_path=str(folder), vision_tower=str(clip))
    assert ask(other).out_ids == ask(model).out_ids
    assert torch.equal(ask(other).first_logits, ask(model).first_logits)


def test_the_vision_weights_of_a_llava_file_are_used(tmp_path, checkpoints, load_tiny, model, ask):
    clip = read_checkpoint(checkpoints / "clip-vit-tiny-patch14-336")
    tuned = {key: tensor * 1.5 for key, tensor in clip.items()}
    folder = tmp_path / "llava-hf"
    to_transformers_layout(checkpoints / "llava-v1.5-tiny", tuned, folder, new=True)
    other = load_tiny(
        model_path=str(folder), vision_tower=str(checkpoints / "clip-vit-tiny-patch14-336")
    )
    assert not torch.allclose(ask(other).first_logits, ask(model).first_logits)


@pytest.fixture
def own_llava(tmp_path, checkpoints):
    """A copy of the tiny LLaVA that a test may change."""
    return shutil.copytree(checkpoints / "llava-v1.5-tiny", tmp_path / "llava-v1.5-tiny")


def shard(folder, tensors):
    """Replaces the weights of a folder by two safetensors shards."""
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name].clone() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_sharded_safetensors(own_llava, load_tiny, model, ask):
    shard(own_llava, read_checkpoint(own_llava))
    assert ask(load_tiny(model_path=str(own_llava))).out_ids == ask(model).out_ids


def test_tied_embeddings_need_no_lm_head(own_llava, load_tiny, ask):
    tensors = read_checkpoint(own_llava)
    tensors.pop("lm_head.weight")
    shard(own_llava, tensors)
    with pytest.raises(UserError, match="1 weights missing .lm_head.weight"):
        load_tiny(model_path=str(own_llava))
    change_config(own_llava, tie_word_embeddings=True)
    llm = load_tiny(model_path=str(own_llava)).language_model.llm
    assert llm.lm_head.weight is llm.model.embed_tokens.weight


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("is_tied", [False, True])
def test_weights_saved_through_a_wrapper(own_llava, load_tiny, ask, prefix, is_tied):
    tensors = read_checkpoint(own_llava)
    if is_tied:  # now every key begins with "model.", wrapped or not
        tensors.pop("lm_head.weight")
        change_config(own_llava, tie_word_embeddings=True)
    shard(own_llava, tensors)
    plain = ask(load_tiny(model_path=str(own_llava), compensation=False))
    shard(own_llava, {f"{prefix}{key}": tensor for key, tensor in tensors.items()})
    wrapped = ask(load_tiny(model_path=str(own_llava), compensation=False))
    assert torch.equal(wrapped.first_logits, plain.first_logits)


def test_every_part_may_be_wrapped(tmp_path, checkpoints, load_tiny, model, ask):
    files = {
        "vision_tower": checkpoints / "clip-vit-tiny-patch14-336" / "pytorch_model.bin",
        "caption_model": checkpoints / "accm" / "coco_prefix-009.pt",
        "selector": checkpoints / "accm" / "llava-RL_prefix-019.pt",
        "longclip": checkpoints / "longclip-L.pt",
    }
    settings = {}
    for part, file in files.items():
        state = {f"module.{key}": tensor for key, tensor in read_checkpoint(file).items()}
        path = tmp_path / part / file.name
        path.parent.mkdir()
        torch.save({"state_dict": state, "epoch": 3}, path)
        settings[part] = str(path)
    shutil.copy(files["vision_tower"].with_name("config.json"), tmp_path / "vision_tower")
    settings["vision_tower"] = str(tmp_path / "vision_tower")
    assert ask(load_tiny(**settings)).out_ids == ask(model).out_ids


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("layer", [-1, -2, 1])
@torch.no_grad()
def test_the_features_are_those_of_the_layer_that_the_config_names(
    own_llava, checkpoints, load_tiny, image, layer
):
    change_config(own_llava, mm_vision_select_layer=layer)
    model = load_tiny(model_path=str(own_llava), compensation=False)
    pixels = model.preprocess([image])
    clip = CLIPVisionModel.from_pretrained(checkpoints / "clip-vit-tiny-patch14-336").float()
    expected = clip(pixels, output_hidden_states=True).hidden_states[layer][0, 1:]
    (encoded,) = model.encode_images(pixels)
    assert torch.allclose(encoded.features, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "said", [{}, {"image_aspect_ratio": None}, {"image_aspect_ratio": "square"}]
)
def test_an_image_is_padded_only_where_the_config_says_so(own_llava, load_tiny, said):
    """Without that, CLIP's own processor cuts the middle out."""
    path = own_llava / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("image_aspect_ratio") == "pad"
    image = Image.effect_noise((90, 60), 80).convert("RGB")
    padded = load_tiny(model_path=str(own_llava), compensation=False).preprocess([image])
    path.write_text(json.dumps(config | said))
    model = load_tiny(model_path=str(own_llava), compensation=False)
    found, cut = model.preprocess([image]), model.image_processor([image], return_tensors="pt")
    assert torch.equal(found, cut["pixel_values"]) and not torch.equal(found, padded)


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(hidden_size=32), r"0.weight: expected \(32, 64\), found \(64, 64\)"),
        (dict(mm_projector_type="linear"), "mlp2x_gelu"),
        (dict(mm_projector_type=None), "mlp2x_gelu"),
        (dict(image_aspect_ratio="anyres"), "mm_patch_merge_type None; LLaVA-NeXT"),
        (dict(num_hidden_layers=3), "weights missing"),
        (dict(num_hidden_layers=1), "not known here"),
        (dict(accm_text_selection="both"), "farthest or nearest"),
        (dict(accm_patch_post_layernorm="no"), "accm_patch_post_layernorm is 'no'"),
        (dict(mm_use_im_start_end=True), "mm_use_im_start_end True"),
        (dict(mm_vision_select_feature="cls_patch"), "cls_patch"),
        (dict(mm_vision_select_layer=-99), "layer -99 of a tower of 4 layers"),
        (dict(mm_vision_select_layer=999), "layer 999 of a tower of 4 layers"),
        (dict(mm_vision_select_layer=True), "select layer is True"),
        (dict(max_position_embeddings=-5), "max_position_embeddings is -5"),
        (dict(max_position_embeddings=20), "reads 20 positions"),
        (dict(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
        (dict(num_key_value_heads=3), "share 3 heads of keys"),
        (dict(rope_theta=0), "inv_freq is not finite"),
        (dict(rms_norm_eps=-1.0), "rms_norm_eps is -1.0"),
        (dict(mm_vision_tower="a" * 5000), "there is no 'aaa"),
        (dict(quantization_config={"quant_method": "awq"}), "is quantised .*awq"),
        (dict(mm_vision_select_layer="x"), "select layer is 'x'"),
        (dict(mm_vision_tower=5), "mm_vision_tower is 5"),
        (dict(hidden_size="big"), "does not fit"),
        (dict(hidden_act="nope"), "does not fit"),
        (dict(text_config=[1]), "does not fit|model_type"),
        (dict(vocab_size=1000), "has 1200 tokens and the model 1000"),
    ],
)
def test_a_config_that_does_not_fit(own_llava, load_tiny, changes, says):
    change_config(own_llava, **changes)
    with pytest.raises(UserError, match=says):
        load_tiny(model_path=str(own_llava))


@pytest.mark.parametrize(
    "file, text, says",
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", "", "not valid JSON"),
        ("pytorch_model.bin.index.json", "{}", "names no weight files"),
        ("pytorch_model.bin.index.json", '{"weight_map": [1]}', "names no weight files"),
    ],
)
def test_a_damaged_file_of_the_model(own_llava, load_tiny, file, text, says):
    (own_llava / file).write_text(text)
    with pytest.raises(UserError, match=says):
        load_tiny(model_path=str(own_llava))


@pytest.mark.parametrize(
    "file, text, says",
    [
        (
            "preprocessor_config.json",
            '{"crop_size": 224, "size": 224}',
            "224 pixels for a tower of 336",
        ),
        ("preprocessor_config.json", '{"image_mean": [0.5]}', "does not fit"),
        ("preprocessor_config.json", '{"image_std": "x"}', "does not fit"),
        (
            "config.json",
            '{"text_config": {}, "vision_config": {"hidden_size": "a"}}',
            "does not fit",
        ),
        ("vocab.json", "{}", "no tokenizer in"),
        ("tokenizer.json", "{", "damaged"),
        (
            "preprocessor_config.json",
            '{"crop_size": 336, "size": 336, "image_std": [0, 0, 0]}',
            "not finite",
        ),
    ],
)
def test_a_damaged_file_of_clip(tmp_path, checkpoints, load_tiny, file, text, says):
    folder = shutil.copytree(checkpoints / "clip-vit-tiny-patch14-336", tmp_path / "clip")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=says):
        load_tiny(vision_tower=str(folder))


@pytest.mark.parametrize(
    "file, text, says",
    [
        ("merges.txt", "", "no tokenizer in"),
        ("vocab.json", "]", "damaged"),
        ("config.json", '{"n_embd": 32, "n_head": 5}', "does not fit|not the file of this model"),
        ("config.json", '{"activation_function": "nope"}', "does not fit"),
        ("config.json", '{"vocab_size": "x"}', "does not fit"),
        ("config.json", '{"vocab_size": 978}', "979 tokens and the model 978"),
        ("config.json", '{"n_layer": 1000000000}', "num_hidden_layers is 1000000000"),
    ],
)
def test_a_damaged_file_of_gpt2(tmp_path, checkpoints, load_tiny, file, text, says):
    folder = shutil.copytree(checkpoints / "gpt2-tiny", tmp_path / "gpt2")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=says):
        load_tiny(gpt2=str(folder))


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(model_type="llava_next"), "llava_next"),
        (dict(vision_feature_select_strategy="full"), "full"),
        (dict(projector_hidden_act="relu"), "relu"),
        (dict(text_config={"model_type": "mistral"}), "mistral"),
    ],
)
def test_a_relative_of_llava_in_transformers_layout(changes, says):
    config = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    read_llava_config(config, "x")
    with pytest.raises(UserError, match=says):
        read_llava_config(config | changes, "x")


def test_a_weight_that_stands_twice_is_refused():
    norm = torch.ones(1)
    with pytest.raises(UserError, match="a second time"):
        split_llava({"model.norm.weight": norm, "language_model.model.norm.weight": norm}, "x")


def test_devices_of_layers_with_similar_names():
    spread = {"model.layers.1": 0, "model.layers.10": 1, "lm_head": "cpu"}
    assert device_in(spread, "model.layers.10.mlp.weight") == 1
    assert device_in(spread, "model.layers.1.mlp.weight") == 0
    assert device_in(spread, "lm_head.weight") == "cpu"
    assert device_in({"": 3}, "model.norm.weight") == 3


def test_a_checkpoint_may_record_its_variant(own_llava, load_tiny, ask):
    change_config(own_llava, accm_text_selection="nearest", accm_patch_post_layernorm=False)
    recorded = load_tiny(model_path=str(own_llava))
    given = load_tiny(text_selection="nearest", patch_post_layernorm=False)
    assert ask(recorded).kept_idx == ask(given).kept_idx
    assert recorded.text_selection == "nearest"
    assert not recorded.tower.patch_post_layernorm


@pytest.mark.parametrize(
    "settings, says",
    [
        (dict(model_path="nowhere/at/all"), "there is no nowhere/at/all"),
        (dict(model_path=None), "--model-path"),
        (dict(caption_model="nowhere.pt"), "there is no nowhere.pt"),
        (dict(gpt2=None), "openai-community/gpt2 .* --gpt2, or do without captions"),
        (dict(device="cuda:99"), "no device 'cuda:99'"),
        (dict(device="gpu"), "no device 'gpu'"),
        (dict(dtype="int8"), "no dtype 'int8'"),
        (dict(device_map="balanced"), "only choice is auto"),
        (dict(text_selection="any"), "farthest or nearest"),
    ],
)
def test_a_bad_setting_says_what_to_do(load_tiny, settings, says):
    with pytest.raises(UserError, match=says):
        load_tiny(**settings)


def test_an_unknown_setting_is_an_error(tiny_settings):
    with pytest.raises(TypeError, match="visual_tokens"):
        load_pretrained_model(**tiny_settings, visual_tokens=3)


def test_parts_in_the_models_own_folder_are_found(
    own_llava, checkpoints, tiny_settings, ask, model
):
    """One folder with everything in it needs no other setting."""
    for name in ("clip-vit-tiny-patch14-336", "accm"):
        shutil.copytree(checkpoints / name, own_llava / name)
    shutil.copytree(checkpoints / "gpt2-tiny", own_llava / "gpt2")
    shutil.copy(checkpoints / "longclip-L.pt", own_llava)
    _, alone, _, _ = load_pretrained_model(str(own_llava), device="cpu", checkpoints_root="nowhere")
    assert ask(alone).out_ids == ask(model).out_ids


def test_swapped_files_are_refused(load_tiny, checkpoints):
    with pytest.raises(UserError, match="selector"):
        load_tiny(selector=str(checkpoints / "accm" / "coco_prefix-009.pt"))
    with pytest.raises(UserError, match="CLIP checkpoint"):
        load_tiny(vision_tower=str(checkpoints / "llava-v1.5-tiny"))
    known = "LLaVA-1.5, LLaVA-NeXT, Qwen2.5-VL"
    with pytest.raises(UserError, match=f"model_type 'gpt2' in .* a checkpoint of {known}"):
        load_tiny(model_path=str(checkpoints / "gpt2-tiny"))


def test_a_device_map_on_one_device_changes_nothing(load_tiny, model, ask):
    assert ask(load_tiny(device_map="auto")).out_ids == ask(model).out_ids


def in_hub_cache(cache, repository, source):
    """Puts a folder where huggingface_hub keeps a downloaded repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(source, folder / "snapshots" / "0000")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0000")


def test_hub_names_without_network(tmp_path, checkpoints, load_tiny, model, ask, monkeypatch):
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    for name in ("llava-v1.5-tiny", "gpt2-tiny", "accm"):
        in_hub_cache(tmp_path, f"owner/{name}", checkpoints / name)
    fetched = load_tiny(
        model_path="owner/llava-v1.5-tiny",
        gpt2="owner/gpt2-tiny",
        selector="owner/accm/llava-RL_prefix-019.pt",
    )
    assert ask(fetched).out_ids == ask(model).out_ids
    with pytest.raises(UserError, match="could not be fetched from the hub"):
        load_tiny(model_path="owner/unknown")


@pytest.mark.parametrize(
    "change",
    [
        lambda words: dict.fromkeys(words, 0),
        lambda words: words | {"a": 5},
        lambda words: {word: i + (i > 9) for word, i in words.items()},
    ],
    ids=["one id", "twice", "a gap"],
)
def test_ids_of_words_are_one_for_each(tmp_path, checkpoints, load_tiny, change):
    folder = Path(shutil.copytree(checkpoints / "gpt2-tiny", tmp_path / "gpt2"))
    words = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(change(words)))
    with pytest.raises(UserError, match="tokenizer files in .* are damaged"):
        load_tiny(gpt2=str(folder))


def test_an_end_that_clip_does_not_look_for(tmp_path):
    """transformers would read the text's first token in the place of its last."""
    folder = Path(shutil.copytree(MINI / "clip-vit-mini-patch8-96", tmp_path / "clip"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="texts end with id 787 .* and with 5 in its config.json"):
        load_pretrained_model(str(MINI), vision_tower=str(folder), compensation=False, device="cpu")
