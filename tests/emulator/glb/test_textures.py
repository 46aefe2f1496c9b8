"""Materials and textures of the models."""

from __future__ import annotations

from collections import Counter

import pytest

from .kit import BODIES, Body, model

SEEDS = range(12)


@pytest.fixture(params=BODIES)
def body(request: pytest.FixtureRequest) -> Body:
    """Give each body type."""
    return request.param


def test_images_are_of_the_kinds_of_exports(body: Body) -> None:
    """JPEGs of 512 and 1024 pixels, PNGs where there is transparency; each is whole and has its declared type."""
    read = model(body, "full")
    kinds = Counter()
    for index, described in enumerate(read.document["images"]):
        image = read.image(index)
        image.load()
        assert f"image/{image.format.lower()}" == described["mimeType"]
        assert image.width == image.height
        assert image.width in (512, 1024)
        kinds[image.format] += 1
    assert {"JPEG": {"T1": 9, "T2": 20}[body], "PNG": {"T1": 2, "T2": 4}[body]} == kinds


def test_images_of_small_models_are_tiny(body: Body) -> None:
    """They cost next to nothing to decode."""
    read = model(body)
    assert {(32, 32)} == {read.image(index).size for index in range(len(read.document["images"]))}


def test_every_image_is_used_once(body: Body) -> None:
    """Each texture has its own image, and a material that shows it."""
    read = model(body)
    used = Counter(
        texture["index"]
        for material in read.document["materials"]
        for textures in (material, material["pbrMetallicRoughness"])
        for name, texture in textures.items()
        if name.endswith("Texture") and name != "occlusionTexture"
    )
    assert dict.fromkeys(range(len(read.document["textures"])), 1) == used
    assert list(range(len(read.document["images"]))) == [texture["source"] for texture in read.document["textures"]]


def test_hair_blends_and_glasses_refract(body: Body) -> None:
    """Hair has a mask and strands with alpha; glasses have an index of refraction and see-through lenses."""
    read = model(body)
    modes = [read.material(f"avaturn_hair_{number}_material")["alphaMode"] for number in (0, 1)]
    assert ["MASK", "BLEND"] == modes
    strands = read.material("avaturn_hair_1_material")["pbrMetallicRoughness"]["baseColorTexture"]["index"]
    low, high = read.image(strands).getchannel("A").getextrema()
    assert low < 30
    assert high > 190
    frames, lenses = (read.material(f"avaturn_glasses_{number}_material") for number in (0, 1))
    assert [{"KHR_materials_ior": {"ior": 1.45}}] * 2 == [frames["extensions"], lenses["extensions"]]
    assert "BLEND" == lenses["alphaMode"]
    assert lenses["pbrMetallicRoughness"]["baseColorFactor"][3] < 0.5
    assert ["KHR_materials_ior"] == read.document["extensionsUsed"]


def test_materials_have_normals_and_roughness(body: Body) -> None:
    """Some have a normal map, and some a map of occlusion, roughness and metalness."""
    read = model(body)
    bumpy = {material["name"] for material in read.document["materials"] if "normalTexture" in material}
    rough = {
        material["name"]
        for material in read.document["materials"]
        if "metallicRoughnessTexture" in material["pbrMetallicRoughness"] and "occlusionTexture" in material
    }
    assert "avaturn_look_0_material" in bumpy & rough
    assert {"T1": {"avaturn_body_material"}, "T2": {"Body", "Head", "Eyes", "Teeth", "Eyelash"}}[body] <= bumpy
    assert all(material["doubleSided"] for material in read.document["materials"])


def test_normal_maps_are_flat_on_average() -> None:
    """Their mean is the surface's own normal."""
    read = model("T2", "full")
    for material in read.document["materials"]:
        if "normalTexture" in material:
            red, green, blue = read.image(material["normalTexture"]["index"]).resize((1, 1)).getpixel((0, 0))
            assert (128, 128) == pytest.approx((red, green), abs=2)
            assert blue > 250


def test_seeds_differ_in_colours() -> None:
    """Skin and hair are tinted, irises and clothes are painted."""
    tints = {
        tuple(model("T2", seed=seed).material(name)["pbrMetallicRoughness"]["baseColorFactor"])
        for seed in SEEDS
        for name in ("Head", "avaturn_hair_0_material")
    }
    looks = set()
    for seed in SEEDS:
        read = model("T2", seed=seed)
        texture = read.material("avaturn_look_0_material")["pbrMetallicRoughness"]["baseColorTexture"]["index"]
        looks.add(read.image(texture).resize((1, 1)).getpixel((0, 0)))
    assert len(tints) > 4
    assert len(looks) > 4


def test_textures_are_noisy_as_photos_are() -> None:
    """They do not compress to nothing, so that a model weighs what an export weighs."""
    read = model("T2", "full")
    image = read.image(read.material("Head")["pbrMetallicRoughness"]["baseColorTexture"]["index"])
    colors = image.getcolors(1024 * 1024)
    assert len(colors) > 2_000
