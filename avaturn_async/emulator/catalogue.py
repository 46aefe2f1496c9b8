"""The assets and bodies that the emulator's project has."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .problems import Complaint, ProblemError, invalid

__all__ = ["SLOTS", "Asset", "Catalogue"]

SLOTS = ("clothing", "hair_and_headwear", "eyewear", "footwear")

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://avaturn.me/emulator/assets")


@attrs.frozen
class Asset:
    """Something to wear. A retired one can no longer be put on."""

    id: uuid.UUID
    slot: str
    name: str
    retired: bool = False


def _asset(slot: str, name: str, *, retired: bool = False) -> Asset:
    return Asset(uuid.uuid5(NAMESPACE, f"{slot}/{name}"), slot, name, retired)


def _stock() -> tuple[Asset, ...]:
    kinds = {
        "clothing": ("hoodie", "suit", "summer_dress"),
        "hair_and_headwear": ("bob", "curls", "beanie"),
        "eyewear": ("aviators", "round_glasses"),
        "footwear": ("sneakers", "boots"),
    }
    return tuple(
        asset
        for slot, names in kinds.items()
        for asset in (*(_asset(slot, name) for name in names), _asset(slot, "last_season", retired=True))
    )


@attrs.frozen
class Catalogue:
    """What a customization may name. The identifiers of the stock are the same in every emulator."""

    assets: tuple[Asset, ...] = attrs.field(factory=_stock, converter=tuple)
    bodies: tuple[str, ...] = attrs.field(default=("body_0", "body_1", "body_2", "body_3"), converter=tuple)

    def available(self, slot: str) -> tuple[Asset, ...]:
        """Return the assets that can be put into a slot."""
        return tuple(asset for asset in self.assets if asset.slot == slot and not asset.retired)

    def retired(self, slot: str) -> tuple[Asset, ...]:
        """Return the assets that once could be put into a slot."""
        return tuple(asset for asset in self.assets if asset.slot == slot and asset.retired)

    def outfit(self) -> dict[str, Any]:
        """Return the customization that the editor starts with: the first of everything."""
        first = {slot: next(iter(self.available(slot)), None) for slot in SLOTS}
        worn = {slot: asset and {"id": str(asset.id)} for slot, asset in first.items()}
        return {"assets": worn, "body": self.bodies[0]}

    def check(self, customization: Mapping[str, Any]) -> None:
        """Raise the contract's 409, 410 or 422 for a customization of the right shape that names what can't be worn."""
        if customization["body"] not in self.bodies:
            wanted = " or ".join(map(repr, self.bodies))
            raise invalid([Complaint(("body", "body"), f"Input should be {wanted}", "enum")])
        worn = [(slot, uuid.UUID(item["id"])) for slot in SLOTS if (item := customization["assets"].get(slot))]
        known = {asset.id: asset for asset in self.assets}
        for slot, asset_id in worn:
            if asset_id in known and known[asset_id].slot != slot:
                raise ProblemError(409, f"Asset {asset_id} added to wrong placement - {slot}")
        self._refuse(asset_id for _, asset_id in worn if asset_id not in known or known[asset_id].retired)

    def _refuse(self, gone: Iterable[uuid.UUID]) -> None:
        names = ", ".join(map(str, gone))
        if names:
            raise ProblemError(410, f"Asset(s) {names} no longer available")
