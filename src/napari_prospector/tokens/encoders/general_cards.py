"""Cards of general encoders, trained on photographs, and of the built-in one that needs no weights."""

from __future__ import annotations

from napari_prospector.tokens.encoders.encodercard import EncoderCard

__all__ = ["GENERAL_CARDS"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

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
    # The facts of the next three are those of timm's own registry (pretrained_cfg of timm 1.0).
    EncoderCard(
        name="mobilenetv2_100",
        loader="timm",
        source="timm:mobilenetv2_100.ra_in1k",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=1280,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Sandler et al., MobileNetV2, CVPR 2018, arXiv 1801.04381",
    ),
    EncoderCard(
        name="resnet50",
        loader="timm",
        source="timm:resnet50.a1_in1k",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=2048,
        patch_px=32,
        licence="apache-2.0",
        gated=False,
        citation="Wightman et al., ResNet strikes back, arXiv 2110.00476",
    ),
    EncoderCard(
        name="dinov2_s14",
        loader="timm",
        source="timm:vit_small_patch14_dinov2.lvd142m",
        tile_px=224,
        mpp=0.5,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        n_dims=384,
        patch_px=14,
        licence="apache-2.0",
        gated=False,
        citation="Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193",
    ),
)
