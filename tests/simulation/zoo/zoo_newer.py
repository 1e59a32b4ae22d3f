"""More architectures: hybrids of attention and state, delta rules, new ways of experts, of sound, pages and series."""

from __future__ import annotations

import torch
from zoo_models import (
    BART,
    ENDS,
    EXPERTS,
    GROUPED,
    HEADS_OF_8,
    IMAGE,
    SOUND,
    T5,
    TEXT,
    Case,
    Inputs,
    image,
    sound,
    translation,
)
from zoo_models import text as words

LOCAL = {**BART, "max_position_embeddings": 64}
SCAN = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
STAGES = {"hidden_sizes": [16, 32], "depths": [1, 1], "num_encoder_blocks": 2, "patch_sizes": [7, 3],
          "strides": [4, 2], "mlp_ratios": [2, 2]}  # fmt: skip


def _ids(n: int) -> torch.Tensor:
    return torch.randint(3, 60, (2, n))


def letters() -> Inputs:
    """A longer text."""
    return {"input_ids": _ids(32)}


def even() -> Inputs:
    """Tokens that divide by the size of a block."""
    return {"input_ids": _ids(8)}


def said() -> Inputs:
    """A wave and words."""
    return {"input_values": torch.randn(2, 2000), "decoder_input_ids": _ids(5)}


def spectrum() -> Inputs:
    """Frames of sixteen bands."""
    return {"input_features": torch.randn(2, 40, 16)}


def series() -> Inputs:
    """Two channels over time."""
    return {"past_values": torch.randn(2, 16, 2)}


def looked_at() -> Inputs:
    """A picture between words, as tokens that stand for it."""
    return {"input_ids": torch.cat([torch.full((2, 16), 63), _ids(5)], 1), **image()}


NEWER: dict[str, Case] = {
    "Qwen 3 Next, delta rule": (
        "Qwen3NextForCausalLM",
        {**EXPERTS, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
         "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
         "layer_types": ["linear_attention", "full_attention"]},
        words,
        0.800,
    ),
    "Jamba": (
        "JambaForCausalLM",
        {**GROUPED, "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "mamba_dt_rank": 4,
         "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
         "use_mamba_kernels": False},
        words,
        0.907,
    ),
    "Nemotron H": (
        "NemotronHForCausalLM",
        {**HEADS_OF_8, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8,
         "layers_block_type": ["mamba", "attention"]},
        words,
        0.856,
    ),
    "Falcon H1, side by side": ("FalconH1ForCausalLM", {**GROUPED, **SCAN, "mamba_d_ssm": 64}, words, 0.935),
    "Zamba 2, one block for all": (
        "Zamba2ForCausalLM",
        {**TEXT, "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_d_state": 8, "n_mamba_heads": 8,
         "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8, "layers_block_type": ["mamba", "hybrid"],
         "hybrid_layer_ids": [1], "num_mem_blocks": 1, "use_mamba_kernels": False},
        words,
        0.957,
    ),
    "Recurrent Gemma": (
        "RecurrentGemmaForCausalLM",
        {**GROUPED, "lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
        words,
        0.858,
    ),
    "LFM 2, short convolutions": (
        "Lfm2ForCausalLM", {**GROUPED, "layer_types": ["conv", "full_attention"]}, words, 0.963
    ),
    "MiniMax, lightning attention": (
        "MiniMaxForCausalLM",
        {**HEADS_OF_8, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 4,
         "layer_types": ["linear_attention", "full_attention"]},
        words,
        0.944,
    ),
    "Gemma 3n, streams": (
        "Gemma3nForCausalLM",
        {**HEADS_OF_8, "intermediate_size": [64, 64], "vocab_size_per_layer_input": 64,
         "hidden_size_per_layer_input": 8, "altup_num_inputs": 2, "num_kv_shared_layers": 0, "laurel_rank": 4,
         "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.5, 0.0]},
        words,
        0.922,
    ),
    "differential attention": ("DiffLlamaForCausalLM", GROUPED, words, 0.910),
    "Longcat, experts that do nothing": (
        "LongcatFlashForCausalLM",
        {"hidden_size": 32, "num_layers": 1, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64,
         "ffn_hidden_size": 64, "expert_ffn_hidden_size": 16, "q_lora_rank": 8, "kv_lora_rank": 8,
         "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "head_dim": 4, "n_routed_experts": 4,
         "zero_expert_num": 2, "moe_topk": 2, **ENDS},
        words,
        0.905,
    ),
    "JetMoE, attention of experts": (
        "JetMoeForCausalLM",
        {**TEXT, "num_key_value_heads": 2, "kv_channels": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        words,
        0.934,
    ),
    "Llama 4": (
        "Llama4ForCausalLM",
        {**HEADS_OF_8, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 64,
         "interleave_moe_layer_step": 2, "attention_chunk_size": 8},
        words,
        0.956,
    ),
    "Llama 3.2 with pictures, its text": (
        "MllamaForCausalLM", {**GROUPED, "cross_attention_layers": [1]}, words, 0.827
    ),
    "Switch": (
        "SwitchTransformersForConditionalGeneration",
        {**T5, "num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
         "num_decoder_layers": 2},
        translation,
        0.966,
    ),
    "LongT5": (
        "LongT5ForConditionalGeneration",
        {**T5, "encoder_attention_type": "transient-global", "local_radius": 3, "global_block_size": 4},
        translation,
        0.970,
    ),
    "Pegasus X": (
        "PegasusXForConditionalGeneration", {**LOCAL, "block_size": 4, "num_global_tokens": 4}, translation, 0.978
    ),
    "ProphetNet": (
        "ProphetNetForConditionalGeneration",
        {"hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
         "num_decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 64,
         "max_position_embeddings": 64, **ENDS},
        translation,
        0.970,
    ),
    "Nyströmformer": (
        "NystromformerForMaskedLM", {**TEXT, "num_landmarks": 4, "segment_means_seq_len": 8}, even, 0.765
    ),
    "ConvBERT": ("ConvBertForMaskedLM", {**TEXT, "embedding_size": 16, "head_ratio": 2, "conv_kernel_size": 3},
                 words, 0.934),
    "SqueezeBERT": ("SqueezeBertForMaskedLM", {**TEXT, "embedding_size": 32, "q_groups": 2}, words, 0.414),
    "MRA": ("MraForMaskedLM", TEXT, words, 0.895),
    "CANINE": ("CanineModel", {**TEXT, "local_transformer_stride": 8, "num_hash_buckets": 64}, letters, 1.000),
    "ESM": ("EsmForMaskedLM", {**TEXT, "mask_token_id": 3, "position_embedding_type": "rotary"}, words, 0.901),
    "Moonshine": (
        "MoonshineForConditionalGeneration",
        {**ENDS, "hidden_size": 32, "intermediate_size": 64, "encoder_num_hidden_layers": 2,
         "decoder_num_hidden_layers": 2, "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4,
         "vocab_size": 64, "decoder_start_token_id": 1},
        said,
        0.978,
    ),
    "WavLM": ("WavLMModel", {**SOUND, "num_buckets": 8, "max_bucket_distance": 16}, sound, 0.918),
    "SEW-D": ("SEWDModel", {**SOUND, "squeeze_factor": 2}, sound, 0.985),
    "Parakeet": (
        "ParakeetEncoder",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
         "num_mel_bins": 16, "subsampling_conv_channels": 8, "conv_kernel_size": 5},
        spectrum,
        0.974,
    ),
    "LLaVA": (
        "LlavaForConditionalGeneration",
        {"text_config": {**GROUPED, "model_type": "llama"}, "image_token_index": 63, "vision_feature_layer": -1,
         "vision_config": {**IMAGE, "model_type": "clip_vision_model"}},
        looked_at,
        0.954,
    ),
    "SegFormer": (
        "SegformerForSemanticSegmentation",
        {**STAGES, "num_attention_heads": [1, 2], "sr_ratios": [4, 2], "decoder_hidden_size": 16, "num_labels": 4},
        image,
        0.9375,
    ),
    "FocalNet": (
        "FocalNetForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
         "focal_levels": [2, 2], "focal_windows": [3, 3]},
        image,
        0.895,
    ),
    "Hiera": (
        "HieraForImageClassification",
        {"image_size": [32, 32], "patch_size": [3, 3], "patch_stride": [2, 2], "patch_padding": [1, 1],
         "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "masked_unit_size": [4, 4], "query_stride": [2, 2],
         "num_query_pool": 1},
        image,
        1.000,
    ),
    "PatchTST": (
        "PatchTSTModel",
        {"d_model": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 64, "num_input_channels": 2,
         "context_length": 16, "patch_length": 4, "patch_stride": 4},
        series,
        1.000,
    ),
}  # fmt: skip
"""As `zoo_models.CASES`."""
