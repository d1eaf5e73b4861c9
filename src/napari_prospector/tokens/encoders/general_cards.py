"""Cards of general encoders, trained on photographs, and of the built-in one that needs no weights.

Facts of timm's models are those of timm's own registry (`pretrained_cfg` of timm 1.0; a test compares them).
Photographs have no pixel size: the 0.5 µm of these cards is our choice, the usual one for slides.
"""

from __future__ import annotations

from functools import partial

from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["GENERAL_CARDS"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# The weight files that timm writes to its repositories.
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
_timm_card = partial(
    EncoderCard, loader="timm", tile_px=224, mpp=0.5, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, weight_files=_TIMM_FILES
)
_dinov2_card = partial(
    _timm_card,
    patch_px=14,
    licence="apache-2.0",
    gated=False,
    citation="Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193",
    # files of facebookresearch load too
    layout="dinov2",
    n_prefix=1,
    unverified=("revision",),
)
_dinov2_reg_card = partial(
    _dinov2_card, citation="Darcet et al., Vision transformers need registers, ICLR 2024, arXiv 2309.16588", n_prefix=5
)
# Upstream takes the class token, and timm's own pooling is the mean of the patches (notes in timm's `eva.py`).
_dinov3_card = partial(
    _timm_card,
    tile_px=256,
    patch_px=16,
    licence="dinov3-license",
    citation="Siméoni et al., DINOv3, arXiv 2508.10104",
    pooling="class",
    n_prefix=5,
    unverified=("revision", "gated"),
)
_clip_card = partial(
    _timm_card,
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    licence="apache-2.0",
    citation="Radford et al., CLIP, ICML 2021, arXiv 2103.00020",
    n_prefix=1,
    unverified=("revision", "gated"),
)

GENERAL_CARDS: tuple[EncoderCard, ...] = (
    EncoderCard(
        name="stain-texture",
        loader="stain-texture",
        source="built in",
        revision="1",
        tile_px=224,
        mpp=0.5,
        licence="bsd-3-clause",
        gated=False,
        citation="napari-prospector; stain vectors of Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001)",
    ),
    _timm_card(
        name="mobilenetv2_100",
        source="timm:mobilenetv2_100.ra_in1k",
        n_dims=1280,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Sandler et al., MobileNetV2, CVPR 2018, arXiv 1801.04381",
        hub="timm/mobilenetv2_100.ra_in1k",
        n_prefix=0,
        unverified=("revision",),
    ),
    _timm_card(
        name="resnet50",
        source="timm:resnet50.a1_in1k",
        n_dims=2048,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Wightman et al., ResNet strikes back, arXiv 2110.00476",
        hub="timm/resnet50.a1_in1k",
        n_prefix=0,
        unverified=("revision",),
    ),
    _dinov2_card(
        name="dinov2_s14",
        source="timm:vit_small_patch14_dinov2.lvd142m",
        n_dims=384,
        hub="timm/vit_small_patch14_dinov2.lvd142m",
    ),
    _dinov2_card(
        name="dinov2_b14",
        source="timm:vit_base_patch14_dinov2.lvd142m",
        n_dims=768,
        hub="timm/vit_base_patch14_dinov2.lvd142m",
    ),
    _dinov2_card(
        name="dinov2_l14",
        source="timm:vit_large_patch14_dinov2.lvd142m",
        n_dims=1024,
        hub="timm/vit_large_patch14_dinov2.lvd142m",
    ),
    _dinov2_card(
        name="dinov2_g14",
        source="timm:vit_giant_patch14_dinov2.lvd142m",
        n_dims=1536,
        hub="timm/vit_giant_patch14_dinov2.lvd142m",
        revision="dd22bb6485eeb29d67273f76d983061298bdc7f0",
        unverified=(),
    ),
    _dinov2_reg_card(
        name="dinov2_s14_reg",
        source="timm:vit_small_patch14_reg4_dinov2.lvd142m",
        n_dims=384,
        hub="timm/vit_small_patch14_reg4_dinov2.lvd142m",
    ),
    _dinov2_reg_card(
        name="dinov2_b14_reg",
        source="timm:vit_base_patch14_reg4_dinov2.lvd142m",
        n_dims=768,
        hub="timm/vit_base_patch14_reg4_dinov2.lvd142m",
    ),
    _dinov2_reg_card(
        name="dinov2_l14_reg",
        source="timm:vit_large_patch14_reg4_dinov2.lvd142m",
        n_dims=1024,
        hub="timm/vit_large_patch14_reg4_dinov2.lvd142m",
    ),
    _dinov2_reg_card(
        name="dinov2_g14_reg",
        source="timm:vit_giant_patch14_reg4_dinov2.lvd142m",
        n_dims=1536,
        hub="timm/vit_giant_patch14_reg4_dinov2.lvd142m",
    ),
    _dinov3_card(
        name="dinov3_s16",
        source="timm:vit_small_patch16_dinov3.lvd1689m",
        n_dims=384,
        hub="timm/vit_small_patch16_dinov3.lvd1689m",
    ),
    _dinov3_card(
        name="dinov3_b16",
        source="timm:vit_base_patch16_dinov3.lvd1689m",
        n_dims=768,
        hub="timm/vit_base_patch16_dinov3.lvd1689m",
    ),
    _dinov3_card(
        name="dinov3_l16",
        source="timm:vit_large_patch16_dinov3.lvd1689m",
        n_dims=1024,
        hub="timm/vit_large_patch16_dinov3.lvd1689m",
    ),
    _dinov3_card(
        name="dinov3_h16plus",
        source="timm:vit_huge_plus_patch16_dinov3.lvd1689m",
        n_dims=1280,
        hub="timm/vit_huge_plus_patch16_dinov3.lvd1689m",
    ),
    _clip_card(
        name="clip_b16",
        source="timm:vit_base_patch16_clip_224.openai",
        n_dims=768,
        hub="timm/vit_base_patch16_clip_224.openai",
        patch_px=16,
    ),
    _clip_card(
        name="clip_l14",
        source="timm:vit_large_patch14_clip_224.openai",
        n_dims=1024,
        hub="timm/vit_large_patch14_clip_224.openai",
        patch_px=14,
    ),
)
