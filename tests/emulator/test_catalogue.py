"""Assets and bodies: what can be put on, and the errors for the rest."""

from typing import Any
from uuid import UUID, uuid4

from avaturn_async.emulator import Asset, Catalogue, Emulator
from avaturn_async.emulator.validation import SLOTS

from .kit import AT_ONCE, Caller


async def dress(caller: Caller, body: str = "body_0", **worn: UUID) -> tuple[int, Any]:
    """Customize a new avatar and return status and body."""
    avatar_id = await caller.scanned()
    assets = {slot: {"id": str(asset_id)} for slot, asset_id in worn.items()}
    return await caller.answer("PUT", f"avatars/{avatar_id}/customization", json={"assets": assets, "body": body})


def test_every_slot_has_available_and_retired_assets() -> None:
    """The default assets are the same in every emulator, and their ids are unique."""
    stock = Catalogue()
    assert all(len(stock.available(slot)) >= 2 and stock.retired(slot) for slot in SLOTS)
    assert len({asset.id for asset in stock.assets}) == len(stock.assets)
    assert stock == Catalogue()
    assert str(stock.assets[0].id) == "d262043d-33e2-5be2-9c3f-863231222b18"


async def test_every_available_asset_and_body_can_be_worn(emulator: Emulator, caller: Caller) -> None:
    """No default asset is refused in its slot."""
    for slot in SLOTS:
        for asset in emulator.catalogue.available(slot):
            assert await dress(caller, **{slot: asset.id}) == (202, None)
    for body in emulator.catalogue.bodies:
        assert await dress(caller, body) == (202, None)


async def test_the_wrong_slot_is_409(emulator: Emulator, caller: Caller) -> None:
    """The detail is the contract's, about the first misplaced asset."""
    hat, boots = emulator.catalogue.available("hair_and_headwear")[0], emulator.catalogue.available("footwear")[0]
    expected = {"detail": f"Asset {boots.id} added to wrong placement - clothing"}
    assert await dress(caller, clothing=boots.id, footwear=hat.id) == (409, expected)


async def test_assets_that_are_gone_are_410(emulator: Emulator, caller: Caller) -> None:
    """The detail lists retired and unknown assets alone."""
    kept, retired, unknown = (
        emulator.catalogue.available("footwear")[0],
        emulator.catalogue.retired("eyewear")[0],
        uuid4(),
    )
    expected = {"detail": f"Asset(s) {unknown}, {retired.id} no longer available"}
    assert await dress(caller, clothing=unknown, eyewear=retired.id, footwear=kept.id) == (410, expected)
    assert await dress(caller, clothing=unknown) == (410, {"detail": f"Asset(s) {unknown} no longer available"})


async def test_an_unknown_body_is_422(caller: Caller) -> None:
    """The error names the field."""
    status, answer = await dress(caller, "body_99")
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "body"])


async def test_a_catalogue_can_be_given() -> None:
    """Its outfit leaves a slot without assets empty."""
    hat = Asset(uuid4(), "hair_and_headwear", "hat")
    async with Emulator(catalogue=Catalogue((hat,), ("tall",)), timing=AT_ONCE) as emulator, Caller(emulator) as caller:
        worn = {**dict.fromkeys(SLOTS), "hair_and_headwear": {"id": str(hat.id)}}
        assert emulator.catalogue.outfit() == {"assets": worn, "body": "tall"}
        await caller.dressed()
