"""Tensors and their blocks."""

SHAPES = {
    "fusion.head.weight": (2, 3),
    "fusion.blocks.0.router.scale": (),
    "fusion.groups.1.missing_D": (4,),
    "fusion.groups.6.missing_D": (4,),
    "encoders.a.w": (2,),
}


BLOCK = dict(zip(SHAPES, ["shared", "shared", "group:1", "group:6", "encoder:a"], strict=True))
