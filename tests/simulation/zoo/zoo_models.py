"""Small random models of many architectures, each with what it takes as an input.

Sizes are as small as an architecture bears. What matters is how each asks torch for its products: in a helper method,
by `einsum` or `bmm`, with a mask, a bias or a soft cap in between, by a layer of another module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Mapping[str, Tensor]

ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    **ENDS,
}
GROUPED = {**TEXT, "num_key_value_heads": 2}
HEADS_OF_8 = {**GROUPED, "head_dim": 8}
EXPERTS = {**HEADS_OF_8, "num_experts_per_tok": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 64, **ENDS}
IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 64}
T5 |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 64,
    "decoder_start_token_id": 2,
    **ENDS,
}
SOUND = {
    **TEXT,
    "conv_dim": [16, 16],
    "conv_stride": [5, 2],
    "conv_kernel": [10, 3],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


def _ids(n: int = 9) -> Tensor:
    return torch.randint(3, 60, (2, n))


def text() -> Inputs:
    """Two rows of tokens."""
    return {"input_ids": _ids()}


def translation() -> Inputs:
    """Tokens for an encoder and a decoder."""
    return {"input_ids": _ids(), "decoder_input_ids": _ids(5)}


def image() -> Inputs:
    """Two small pictures."""
    return {"pixel_values": torch.randn(2, 3, 32, 32)}


def sound() -> Inputs:
    """Two short waves."""
    return {"input_values": torch.randn(2, 400)}


def page() -> Inputs:
    """Words and where they stand."""
    return {"input_ids": _ids(), "bbox": torch.randint(0, 60, (2, 9, 1)).expand(2, 9, 4).contiguous()}


def caption() -> Inputs:
    """A picture and words."""
    return {**text(), **image()}


def speech() -> Inputs:
    """A spectrum and words."""
    return {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": _ids(5)}


def latents() -> Inputs:
    """Words for a Perceiver."""
    return {"inputs": _ids(16)}


Case = tuple[str, Mapping[str, Any], Callable[[], Inputs], float]
"""Class of the transformers library, its configuration, what makes its inputs, and its share of MACs in light."""

CASES: dict[str, Case] = {
    "GPT-2": ("GPT2LMHeadModel", GPT, text, 0.926),
    "Llama": ("LlamaForCausalLM", GROUPED, text, 0.905),
    "Mistral": ("MistralForCausalLM", {**GROUPED, "sliding_window": 4}, text, 0.905),
    "Qwen 2": ("Qwen2ForCausalLM", GROUPED, text, 0.905),
    "Qwen 3": ("Qwen3ForCausalLM", HEADS_OF_8, text, 0.905),
    "Phi": ("PhiForCausalLM", TEXT, text, 0.895),
    "Phi 3": ("Phi3ForCausalLM", GROUPED, text, 0.905),
    "Gemma": ("GemmaForCausalLM", HEADS_OF_8, text, 0.905),
    "Gemma 2, soft cap": ("Gemma2ForCausalLM", {**HEADS_OF_8, "query_pre_attn_scalar": 8}, text, 0.905),
    "Gemma 3": ("Gemma3ForCausalLM", {**HEADS_OF_8, "query_pre_attn_scalar": 8}, text, 0.905),
    "gpt-oss, sinks": ("GptOssForCausalLM", {**EXPERTS, "num_local_experts": 4, "sliding_window": 8}, text, 0.940),
    "T5, position bias": ("T5ForConditionalGeneration", T5, translation, 0.968),
    "mT5": ("MT5ForConditionalGeneration", T5, translation, 0.973),
    "UMT5": ("UMT5ForConditionalGeneration", T5, translation, 0.973),
    "ModernBERT": (
        "ModernBertForMaskedLM",
        {**TEXT, "global_attn_every_n_layers": 2, "local_attention": 4, "cls_token_id": 1, "sep_token_id": 2},
        text,
        0.917,
    ),
    "BERT": ("BertForMaskedLM", TEXT, text, 0.901),
    "RoBERTa": ("RobertaForMaskedLM", TEXT, text, 0.901),
    "ELECTRA": ("ElectraForMaskedLM", {**TEXT, "embedding_size": 16}, text, 0.948),
    "ALBERT": ("AlbertForMaskedLM", {**TEXT, "embedding_size": 16}, text, 0.948),
    "DistilBERT": (
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 64, "max_position_embeddings": 64},
        text,
        0.901,
    ),
    "DeBERTa-v2": (
        "DebertaV2ForMaskedLM",
        {**TEXT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
        text,
        0.922,
    ),
    "MPNet": ("MPNetForMaskedLM", TEXT, text, 0.901),
    "BigBird": ("BigBirdForMaskedLM", {**TEXT, "attention_type": "original_full"}, text, 0.901),
    "Longformer": ("LongformerForMaskedLM", {**TEXT, "attention_window": 4}, text, 0.921),
    "BART": ("BartForConditionalGeneration", {**BART, "max_position_embeddings": 64}, translation, 0.968),
    "GPT-Neo": (
        "GPTNeoForCausalLM",
        {**TEXT, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 4},
        text,
        0.895,
    ),
    "GPT-NeoX": ("GPTNeoXForCausalLM", TEXT, text, 0.895),
    "GPT-J": ("GPTJForCausalLM", {**GPT, "rotary_dim": 4}, text, 0.926),
    "BLOOM, alibi": ("BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64}, text, 0.926),
    "MPT": (
        "MptForCausalLM",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": 64, "max_seq_len": 64},
        text,
        0.926,
    ),
    "Falcon": ("FalconForCausalLM", TEXT, text, 0.917),
    "OPT": ("OPTForCausalLM", {**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32}, text, 0.895),
    "Mamba": (
        "MambaForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "state_size": 8, "time_step_rank": 4},
        text,
        0.857,
    ),
    "Mamba 2": (
        "Mamba2ForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "state_size": 8, "num_heads": 8, "head_dim": 8,
         "n_groups": 2, "chunk_size": 8},
        text,
        0.883,
    ),
    "RWKV": (
        "RwkvForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "attention_hidden_size": 32,
         "intermediate_size": 64, "context_length": 32},
        text,
        0.900,
    ),
    "Mixtral, experts": (
        "MixtralForCausalLM",
        {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
        text,
        0.940,
    ),
    "Qwen 3, experts": ("Qwen3MoeForCausalLM", {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 16}, text, 0.870),
    "DeepSeek 3, experts": (
        "DeepseekV3ForCausalLM",
        {**GROUPED, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
         "moe_intermediate_size": 16, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 8,
         "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8},
        text,
        0.890,
    ),
    "OLMo 2": ("Olmo2ForCausalLM", GROUPED, text, 0.905),
    "Cohere": ("CohereForCausalLM", GROUPED, text, 0.905),
    "StableLM": ("StableLmForCausalLM", GROUPED, text, 0.905),
    "Granite": ("GraniteForCausalLM", GROUPED, text, 0.905),
    "SmolLM 3": ("SmolLM3ForCausalLM", GROUPED, text, 0.905),
    "XLNet": (
        "XLNetLMHeadModel",
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 64},
        text,
        0.918,
    ),
    "Funnel": (
        "FunnelForMaskedLM",
        {"vocab_size": 64, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64, "block_sizes": [1, 1],
         "num_decoder_layers": 1},
        text,
        0.932,
    ),
    "CTRL": ("CTRLLMHeadModel", {**GPT, "dff": 64}, text, 0.895),
    "FNet": ("FNetForMaskedLM", TEXT, text, 0.755),
    "LayoutLM 3": (
        "LayoutLMv3Model",
        {**TEXT, "input_size": 32, "patch_size": 8, "visual_embed": False, "coordinate_size": 5, "shape_size": 6,
         "has_relative_attention_bias": True, "has_spatial_attention_bias": True, "max_2d_position_embeddings": 64},
        page,
        1.000,
    ),
    "ViT": ("ViTForImageClassification", IMAGE, image, 1.000),
    "DeiT": ("DeiTForImageClassification", IMAGE, image, 1.000),
    "BEiT": ("BeitForImageClassification", {**IMAGE, "use_relative_position_bias": True}, image, 0.998),
    "Swin": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        image,
        1.000,
    ),
    "ConvNeXt": (
        "ConvNextForImageClassification",
        {"depths": [1, 1], "hidden_sizes": [16, 32], "num_stages": 2, "image_size": 32},
        image,
        0.821,
    ),
    "DINOv2": ("Dinov2ForImageClassification", IMAGE, image, 1.000),
    "SigLIP": ("SiglipVisionModel", IMAGE, image, 1.000),
    "CLIP": ("CLIPModel", {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 16}, caption, 1.000),
    "BLIP": (
        "BlipForConditionalGeneration",
        {"text_config": {**TEXT, "encoder_hidden_size": 32}, "vision_config": IMAGE},
        caption,
        0.975,
    ),
    "SAM": (
        "SamVisionModel",
        {**IMAGE, "window_size": 2, "global_attn_indexes": [1], "output_channels": 16, "num_pos_feats": 8},
        image,
        1.000,
    ),
    "Perceiver": (
        "PerceiverForMaskedLM",
        {"num_latents": 8, "d_latents": 32, "d_model": 32, "num_blocks": 1, "num_self_attends_per_block": 2,
         "num_self_attention_heads": 4, "num_cross_attention_heads": 4, "vocab_size": 64,
         "max_position_embeddings": 16},
        latents,
        0.935,
    ),
    "Whisper": (
        "WhisperForConditionalGeneration",
        {**BART, "max_source_positions": 20, "max_target_positions": 20, "num_mel_bins": 8},
        speech,
        0.985,
    ),
    "wav2vec 2": ("Wav2Vec2ForCTC", SOUND, sound, 0.923),
    "Conformer, relative": ("Wav2Vec2ConformerForCTC", {**SOUND, "position_embeddings_type": "relative"}, sound, 0.959),
}  # fmt: skip


class Handwritten(nn.Module):
    """A decoder as people write it by hand: one matrix for query, key and value, products by ``@``."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(64, 32), nn.Linear(32, 64, bias=False)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.up, self.down = nn.Parameter(torch.randn(32, 64)), nn.Parameter(torch.randn(64, 32))
        self.head.weight = self.table.weight

    def attend(self, x: Tensor) -> Tensor:
        """Causal, four heads, in a method of its own."""
        q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = (q @ k.transpose(-2, -1)) / 8**0.5
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        y: Tensor = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        return y.transpose(1, 2).flatten(-2)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, n) to (B, n, vocabulary)."""
        x = self.table(input_ids)
        x = x + self.out(self.attend(x))
        logits: Tensor = self.head(x + torch.einsum("bif,fd->bid", (x @ self.up).relu(), self.down))
        return logits


class Recurrent(nn.Module):
    """Two layers of memory cells, and a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.cells, self.head = nn.Embedding(64, 16), nn.LSTM(16, 16, 2, batch_first=True), nn.Linear(16, 8)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, n) to (B, n, 8)."""
        logits: Tensor = self.head(self.cells(self.table(input_ids))[0])
        return logits


class Encoder(nn.Module):
    """Torch's own encoder, whose layers have a fast path that shows no product."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.table, self.layers = nn.Embedding(64, 32), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, n) to (B, n, 32)."""
        y: Tensor = self.layers(self.table(input_ids), src_key_padding_mask=input_ids < 20)
        return y


OURS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "by hand": (Handwritten, 0.811),
    "memory cells": (Recurrent, 1.000),
    "torch's encoder": (Encoder, 1.000),
}


PICTURE = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10}
STAGES = {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32), "num_classes": 10}
VISION: dict[str, tuple[str, Mapping[str, Any], bool, float]] = {
    "ViT, fused": ("vit_tiny_patch16_224", PICTURE, True, 1.000),
    "ViT, by its parts": ("vit_tiny_patch16_224", PICTURE, False, 1.000),
    "BEiT, fused": ("beit_base_patch16_224", PICTURE, True, 1.000),
    "BEiT, by its parts": ("beit_base_patch16_224", PICTURE, False, 1.000),
    "Swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "patch_size": 2, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "window_size": 4,
         "num_classes": 10},
        True,
        1.000,
    ),
    "ConvNeXt": ("convnext_atto", STAGES, True, 0.800),
    "MLP-Mixer": (
        "MlpMixer",
        {"img_size": 32, "patch_size": 8, "num_blocks": 2, "embed_dim": 32, "num_classes": 10},
        True,
        1.000,
    ),
    "gMLP": ("gmlp_ti16_224", {"img_size": 32, "num_classes": 10}, True, 1.000),
    "CaiT": ("cait_xxs24_224", PICTURE, True, 1.000),
    "XCiT": ("xcit_nano_12_p16_224", PICTURE, True, 0.975),
    "MobileNet": ("mobilenetv3_small_050", {"num_classes": 10}, True, 0.899),
    "EfficientNet": ("efficientnet_lite0", {"num_classes": 10}, True, 0.910),
    "ResNet": ("resnet10t", {"num_classes": 10}, True, 1.000),
}  # fmt: skip
"""Model of timm, or its class, its options, whether its attention is fused, and its share of MACs in light."""
