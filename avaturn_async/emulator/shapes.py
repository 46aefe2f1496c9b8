"""The contract's requests, as checks."""

from .validation import choice, nullable, number, record, string, tagged, texts, uuid

__all__ = ["CUSTOMIZATION", "EXPORT", "LISTING", "RENDER", "SESSION", "USER"]

HEX = "[0-9a-fA-F]"
SLOT = record({"id": uuid})
RGB_SLOT = record({"id": uuid}, {"color": nullable(string(f"#{HEX}{{6}}"))})
RGBA_SLOT = record({"id": uuid}, {"color": nullable(string(f"#{HEX}{{8}}"))})
SLOTS = {"clothing": SLOT, "hair_and_headwear": RGB_SLOT, "eyewear": RGBA_SLOT, "footwear": SLOT}

USER = record({"user_id": string()})
SESSION = record(
    {"user_id": string()},
    {
        "config": tagged(
            "type",
            {
                "create_or_edit_existing": record({}),
                "create": record({}),
                "edit_existing": record({"avatar_id": uuid}),
            },
        )
    },
)
CUSTOMIZATION = record(
    {"assets": record({}, {slot: nullable(check) for slot, check in SLOTS.items()}), "body": string()},
    {
        "age": string(),
        "metadata": texts,
        "bone_scale": nullable(record({}, {"head": number, "arms": number, "chest": number})),
        "skin_tone_correction": nullable(number),
    },
)
LISTING = record({}, {"include_not_ready": choice("true", "false")})
EXPORT = record({"avatar_id": uuid})
RENDER = record({"avatar_id": uuid, "scene": string("[a-zA-Z0-9_/]+")}, {"format": choice("jpg", "png", "webp")})
