"""The assets and bodies of the emulator's project."""

import uuid
from collections.abc import Mapping
from typing import Any

import attrs

from .validation import SLOTS, ApiError, Issue, invalid

__all__ = ["Asset", "Catalogue"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://avaturn.me/emulator/assets")


@attrs.frozen
class Asset:
    """An item of one slot. A retired one can no longer be put on."""

    id: uuid.UUID
    slot: str
    name: str
    retired: bool = False


def _default_assets() -> tuple[Asset, ...]:
    names = {
        "clothing": ("hoodie", "suit", "summer_dress"),
        "hair_and_headwear": ("bob", "curls", "beanie"),
        "eyewear": ("aviators", "round_glasses"),
        "footwear": ("sneakers", "boots"),
    }
    return tuple(
        Asset(uuid.uuid5(NAMESPACE, f"{slot}/{name}"), slot, name, retired=name == "last_season")
        for slot in SLOTS
        for name in (*names[slot], "last_season")
    )


@attrs.frozen
class Catalogue:
    """What a customization may name. The default assets have the same identifiers in every emulator."""

    assets: tuple[Asset, ...] = attrs.field(factory=_default_assets, converter=tuple, repr=False)
    bodies: tuple[str, ...] = attrs.field(default=("body_0", "body_1", "body_2", "body_3"), converter=tuple, repr=False)

    def available(self, slot: str) -> tuple[Asset, ...]:
        """Return the assets that can be put on in a slot."""
        return tuple(asset for asset in self.assets if asset.slot == slot and not asset.retired)

    def retired(self, slot: str) -> tuple[Asset, ...]:
        """Return the assets of a slot that can no longer be put on."""
        return tuple(asset for asset in self.assets if asset.slot == slot and asset.retired)

    def outfit(self) -> dict[str, Any]:
        """Return the customization that the editor starts with: the first asset of each slot, and the first body."""
        first = {slot: next(iter(self.available(slot)), None) for slot in SLOTS}
        worn = {slot: asset and {"id": str(asset.id)} for slot, asset in first.items()}
        return {"assets": worn, "body": self.bodies[0]}

    def names(self, customization: Mapping[str, Any]) -> dict[str, str]:
        """Return the name of what is worn in each slot that is not empty."""
        known = {asset.id: asset.name for asset in self.assets}
        return {slot: known[asset_id] for slot, asset_id in _worn(customization)}

    def check(self, customization: Mapping[str, Any]) -> None:
        """Raise the contract's 409, 410 or 422 if a customization, of valid shape, names what can't be put on."""
        if customization["body"] not in self.bodies:
            wanted = " or ".join(map(repr, self.bodies))
            raise invalid([Issue(("body", "body"), f"Input should be {wanted}", "enum")])
        worn = _worn(customization)
        known = {asset.id: asset for asset in self.assets}
        for slot, asset_id in worn:
            if asset_id in known and known[asset_id].slot != slot:
                raise ApiError(409, f"Asset {asset_id} added to wrong placement - {slot}")
        gone = [str(asset_id) for _, asset_id in worn if asset_id not in known or known[asset_id].retired]
        if gone:
            raise ApiError(410, f"Asset(s) {', '.join(gone)} no longer available")


def _worn(customization: Mapping[str, Any]) -> list[tuple[str, uuid.UUID]]:
    return [(slot, uuid.UUID(item["id"])) for slot in SLOTS if (item := customization["assets"].get(slot))]
